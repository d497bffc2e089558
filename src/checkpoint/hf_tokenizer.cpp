#include "checkpoint/hf_tokenizer.h"

#include <algorithm>

#include "checkpoint/json_file.h"
#include "checkpoint/sentence_piece_model.h"
#include "core/base64.h"
#include "core/error.h"
#include "core/file.h"

namespace espalier {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr std::string_view kSpaceLetter = "\xE2\x96\x81";  // U+2581
constexpr size_t kMostTemplate = size_t{16} << 20;

template <class T>
T field(const Json& json, const char* key, T fallback) {
  const auto it = json.find(key);
  if (it == json.end() || it->is_null()) return fallback;
  try {
    return it->get<T>();
  } catch (const Json::exception&) {
    throw CorruptFile(error_text(std::string("tokenizer: ") + key, "another kind of value", it->dump().substr(0, 60)));
  }
}

// The pre-tokenizer by the shape of its JSON; the regular expressions in the file are compared, never run.
std::string pre_tokenizer_of(const Json& json) {
  const Json pre = json.value("pre_tokenizer", Json());
  const std::string text = pre.dump();
  const auto kind = [](const Json& part) { return part.is_object() ? part.value("type", "") : std::string(); };
  if (kind(pre) == "ByteLevel" && pre.value("use_regex", true)) return "gpt2";
  if (kind(pre) == "Sequence" && pre.contains("pretokenizers") && pre["pretokenizers"].size() == 2) {
    const Json &first = pre["pretokenizers"][0], &second = pre["pretokenizers"][1];
    if (kind(first) == "Digits" && first.value("individual_digits", false) && kind(second) == "ByteLevel" &&
        second.value("use_regex", true)) {
      return "smollm";
    }
    constexpr std::string_view kLlama3 = "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*";
    if (kind(first) == "Split" &&
        first.dump().find(Json(kLlama3).dump().substr(1, kLlama3.size())) != std::string::npos &&
        kind(second) == "ByteLevel") {
      return "llama3";
    }
  }
  throw NotSupported(
      error_text("tokenizer.json: pre_tokenizer", "that of SmolLM2, GPT-2 or LLaMA-3", text.substr(0, 80)));
}

void read_added_tokens(const Json& json, TokenizerData& data) {
  const Json tokens = json.value("added_tokens", Json::array());
  for (const Json& token : tokens) {
    const int64_t id = field<int64_t>(token, "id", -1);
    if (id < 0 || id > (1 << 24)) throw CorruptFile(error_text("tokenizer.json: added_tokens", "an id", token.dump()));
    if (static_cast<size_t>(id) >= data.pieces.size()) data.pieces.resize(static_cast<size_t>(id) + 1);
    data.pieces[static_cast<size_t>(id)] = field<std::string>(token, "content", "");
    data.special_ids.push_back(static_cast<int32_t>(id));
    if (field<bool>(token, "special", false)) data.control_ids.push_back(static_cast<int32_t>(id));
  }
}

int32_t id_of_piece(const TokenizerData& data, const Json& token) {
  const Json text = token.is_object() ? token.value("content", Json()) : token;
  if (!text.is_string()) return -1;
  const auto it = std::find(data.pieces.begin(), data.pieces.end(), text.get<std::string>());
  return it == data.pieces.end() ? -1 : static_cast<int32_t>(it - data.pieces.begin());
}

// A part's own name, "" for anything but an object with one.
std::string text_of(const Json& part, const char* key, const std::string& fallback = "") {
  if (!part.is_object()) return fallback;
  return field<std::string>(part, key, fallback);
}

void read_word_piece(const Json& json, const Json& model, TokenizerData& data) {
  data.model = "wordpiece";
  data.continuing_prefix = text_of(model, "continuing_subword_prefix", "##");
  data.max_word_characters = field<int64_t>(model, "max_input_chars_per_word", 100);
  const Json normalizer = json.value("normalizer", Json()), pre = json.value("pre_tokenizer", Json());
  if (text_of(normalizer, "type") != "BertNormalizer" || text_of(pre, "type") != "BertPreTokenizer") {
    throw NotSupported(error_text("tokenizer.json: normalizer and pre_tokenizer", "BertNormalizer, BertPreTokenizer",
                                  "'" + text_of(normalizer, "type") + "', '" + text_of(pre, "type") + "'"));
  }
  data.normalizer.clean = field<bool>(normalizer, "clean_text", true);
  data.normalizer.chinese_apart = field<bool>(normalizer, "handle_chinese_chars", true);
  data.normalizer.lower_case = field<bool>(normalizer, "lowercase", true);
  data.normalizer.strip_accents = field<bool>(normalizer, "strip_accents", data.normalizer.lower_case);
}

// [text, id] as BertProcessing and RobertaProcessing write their tokens.
int32_t id_of_pair(const Json& pair, const TokenizerData& data) {
  const bool fine = pair.is_array() && pair.size() == 2 && pair[1].is_number_integer() && pair[1] >= 0 &&
                    pair[1] < data.pieces.size();
  if (!fine) throw CorruptFile(error_text("tokenizer.json: post_processor", "a token and its id", pair.dump()));
  return pair[1].get<int32_t>();
}

// The tokens around a single text, as the post-processor says.
void read_surroundings(const Json& json, TokenizerData& data) {
  const Json processor = json.value("post_processor", Json());
  Json parts = Json::array({processor});
  if (text_of(processor, "type") == "Sequence") parts = processor.value("processors", Json::array());
  for (const Json& part : parts) {
    const std::string type = text_of(part, "type");
    if (type == "BertProcessing" || type == "RobertaProcessing") {
      data.prefix_ids = {id_of_pair(part.value("cls", Json()), data)};
      data.suffix_ids = {id_of_pair(part.value("sep", Json()), data)};
    }
    if (type != "TemplateProcessing") continue;
    data.prefix_ids.clear();
    data.suffix_ids.clear();
    bool after = false;
    const Json single = part.value("single", Json::array());
    for (const Json& piece : single) {
      if (piece.is_object() && piece.contains("Sequence")) after = true;
      if (!piece.is_object() || !piece.contains("SpecialToken")) continue;
      const std::string name = text_of(piece["SpecialToken"], "id");
      const Json tokens = part.value("special_tokens", Json::object());
      const Json token = tokens.is_object() ? tokens.value(name, Json()) : Json();
      const Json ids = token.is_object() ? token.value("ids", Json()) : Json();
      if (!ids.is_array())
        throw CorruptFile(error_text("tokenizer.json: post_processor", "ids of '" + name + "'", "none"));
      for (const Json& id : ids) {
        (after ? data.suffix_ids : data.prefix_ids).push_back(id_of_pair(Json::array({name, id}), data));
      }
    }
  }
}

// SentencePiece's normalizers: a table of replacements, and how spaces are written.
void read_space_normalizer(const Json& step, TokenizerData& data) {
  const std::string type = text_of(step, "type");
  if (step.is_null()) return;
  if (type == "Sequence") {
    const Json steps = step.value("normalizers", Json::array());
    for (const Json& own : steps) read_space_normalizer(own, data);
  } else if (type == "Precompiled") {
    data.normalizer.charsmap =
        base64_decoded(text_of(step, "precompiled_charsmap"), "tokenizer.json: precompiled_charsmap");
  } else if (type == "Prepend" && text_of(step, "prepend") == kSpaceLetter) {
    data.spaces.prepend = SpaceData::Prepend::kEvenSpaces;
  } else if (type == "Replace" && text_of(step.value("pattern", Json()), "String") == " " &&
             text_of(step, "content") == kSpaceLetter) {
    return;  // spaces are letters anyway
  } else if (type == "Replace" && text_of(step.value("pattern", Json()), "Regex") == " {2,}") {
    data.normalizer.collapse_spaces = true;
  } else if (type == "Strip") {
    data.normalizer.strip_left = field<bool>(step, "strip_left", true);
    data.normalizer.strip_right = field<bool>(step, "strip_right", true);
  } else if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    data.normalizer.form = type == "NFC" ? "nfc" : type == "NFD" ? "nfd" : type == "NFKC" ? "nfkc" : "nfkd";
  } else {
    throw NotSupported(error_text("tokenizer.json: normalizer", "one of SentencePiece's", step.dump().substr(0, 80)));
  }
}

void read_space_pre_tokenizer(const Json& pre, TokenizerData& data) {
  const std::string type = text_of(pre, "type");
  if (pre.is_null()) return;
  if (type == "Sequence") {
    const Json steps = pre.value("pretokenizers", Json::array());
    for (const Json& own : steps) read_space_pre_tokenizer(own, data);
  } else if (type == "WhitespaceSplit") {
    data.spaces.only_words = true;
  } else if (type == "Metaspace" && text_of(pre, "replacement", std::string(kSpaceLetter)) == kSpaceLetter) {
    const std::string scheme =
        text_of(pre, "prepend_scheme", field<bool>(pre, "add_prefix_space", true) ? "always" : "never");
    data.spaces.prepend = scheme == "always"  ? SpaceData::Prepend::kAlways
                          : scheme == "first" ? SpaceData::Prepend::kFirst
                                              : SpaceData::Prepend::kNever;
    data.spaces.split = field<bool>(pre, "split", true);
  } else {
    throw NotSupported(error_text("tokenizer.json: pre_tokenizer", "Metaspace", pre.dump().substr(0, 80)));
  }
}

void read_sentence_piece(const Json& json, const Json& model, TokenizerData& data) {
  data.spaces.prepend = SpaceData::Prepend::kNever;
  data.byte_fallback = field<bool>(model, "byte_fallback", false);
  read_space_normalizer(json.value("normalizer", Json()), data);
  read_space_pre_tokenizer(json.value("pre_tokenizer", Json()), data);
}

// [[piece, score], …]
void read_scored_pieces(const Json& model, TokenizerData& data) {
  const Json vocab = model.value("vocab", Json::array());
  for (const Json& entry : vocab) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      throw CorruptFile(error_text("tokenizer.json: vocab", "[piece, score]", entry.dump().substr(0, 60)));
    }
    if (data.pieces.size() > (1 << 24)) throw CorruptFile(error_text("tokenizer.json: vocab", "fewer pieces", "2^24"));
    data.pieces.push_back(entry[0].get<std::string>());
    data.scores.push_back(entry[1].get<double>());
  }
  data.unk_id = static_cast<int32_t>(field<int64_t>(model, "unk_id", -1));
}

// {piece: id, …}
void read_pieces(const Json& model, TokenizerData& data) {
  const Json vocab = model.value("vocab", Json::object());
  for (const auto& [piece, id] : vocab.items()) {
    const int64_t value = id.is_number_integer() ? id.get<int64_t>() : -1;
    if (value < 0 || value > (1 << 24)) throw CorruptFile(error_text("tokenizer.json: vocab", "an id", id.dump()));
    if (static_cast<size_t>(value) >= data.pieces.size()) data.pieces.resize(static_cast<size_t>(value) + 1);
    data.pieces[static_cast<size_t>(value)] = piece;
  }
}

void read_merges(const Json& model, TokenizerData& data) {
  const Json merges = model.value("merges", Json::array());
  for (const Json& merge : merges) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      data.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    const std::string pair = merge.is_string() ? merge.get<std::string>() : "";
    const size_t space = pair.find(' ', 1);
    if (space == std::string::npos) throw CorruptFile(error_text("tokenizer.json: merges", "two pieces", merge.dump()));
    data.merges.emplace_back(pair.substr(0, space), pair.substr(space + 1));
  }
}

// Whether a BPE is SentencePiece's: over characters, with spaces as letters.
bool is_sentence_piece_bpe(const Json& json, const Json& model) {
  const std::string pre = json.value("pre_tokenizer", Json()).dump();
  return field<bool>(model, "byte_fallback", false) || pre.find("Metaspace") != std::string::npos;
}

TokenizerData read_tokenizer_json(const fs::path& path) {
  TokenizerData data;
  const Json json = read_json_file(path);
  const Json model = json.value("model", Json::object());
  const std::string type = text_of(model, "type", "BPE");
  if (type == "Unigram") {
    data.model = "unigram";
    read_sentence_piece(json, model, data);
    read_scored_pieces(model, data);
  } else if (type == "WordPiece") {
    read_word_piece(json, model, data);
    read_pieces(model, data);
  } else if (type == "BPE") {
    if (is_sentence_piece_bpe(json, model)) {
      data.model = "sentencepiece-bpe";
      read_sentence_piece(json, model, data);
    } else {
      data.model = "bpe";
      data.pre_tokenizer = pre_tokenizer_of(json);
      data.whole_words = field<bool>(model, "ignore_merges", false);
    }
    read_pieces(model, data);
    read_merges(model, data);
  } else {
    throw NotSupported(error_text("tokenizer.json: model", "BPE, WordPiece or Unigram", "'" + type + "'"));
  }
  read_added_tokens(json, data);
  if (type == "Unigram") data.scores.resize(data.pieces.size(), 0.0);
  if (type != "Unigram") {
    data.unk_id = id_of_piece(data, model.value("unk_token", type == "WordPiece" ? Json("[UNK]") : Json()));
  }
  read_surroundings(json, data);
  return data;
}

// SentencePiece's file alone: what its family puts around a text, and T5's <extra_id_N>.
TokenizerData read_model_file(const fs::path& path, const std::string& family) {
  TokenizerData data = read_sentence_piece_model(path);
  if (family == "t5") {
    if (data.eos_id >= 0) data.suffix_ids = {data.eos_id};
    for (int n = 99; n >= 0; --n) {
      data.special_ids.push_back(static_cast<int32_t>(data.pieces.size()));
      data.control_ids.push_back(data.special_ids.back());
      data.pieces.push_back("<extra_id_" + std::to_string(n) + ">");
      if (!data.scores.empty()) data.scores.push_back(0.0);
    }
  } else if (data.bos_id >= 0) {
    data.prefix_ids = {data.bos_id};
  }
  return data;
}

}  // namespace

TokenizerData read_hf_tokenizer(const fs::path& directory, const std::string& family, int64_t vocab_size) {
  TokenizerData data;
  if (fs::exists(directory / "tokenizer.json")) {
    try {
      data = read_tokenizer_json(directory / "tokenizer.json");
    } catch (const Json::exception& error) {
      throw CorruptFile(error_text("tokenizer.json", "the tokenizers library's form", error.what()));
    }
  } else {
    for (const char* name : {"spiece.model", "tokenizer.model"}) {
      if (data.pieces.empty() && fs::exists(directory / name)) data = read_model_file(directory / name, family);
    }
  }
  if (data.pieces.empty()) return data;
  // Models round the size of their vocabulary up: ids without a piece stand for nothing.
  constexpr int64_t kMostPadding = 1 << 16;
  const int64_t missing = vocab_size - static_cast<int64_t>(data.pieces.size());
  if (missing > 0 && missing <= kMostPadding) {
    data.pieces.resize(static_cast<size_t>(vocab_size));
    if (data.model == "unigram") data.scores.resize(data.pieces.size(), 0.0);
  }
  const auto set = [&](const Json& config, const char* key, int32_t& id) {
    if (config.contains(key) && !config[key].is_null()) id = id_of_piece(data, config[key]);
  };
  bool add_bos = false;
  const fs::path config_path = directory / "tokenizer_config.json";
  if (fs::exists(config_path)) {
    const Json config = read_json_file(config_path);
    set(config, "bos_token", data.bos_id);
    set(config, "eos_token", data.eos_id);
    set(config, "unk_token", data.unk_id);
    set(config, "pad_token", data.pad_id);
    add_bos = field<bool>(config, "add_bos_token", false);
    if (!fs::exists(directory / "tokenizer.json")) {  // else its post-processor says
      if (!field<bool>(config, "add_bos_token", true)) data.prefix_ids.clear();
      const bool add_eos = field<bool>(config, "add_eos_token", !data.suffix_ids.empty());
      data.suffix_ids = add_eos && data.eos_id >= 0 ? std::vector<int32_t>{data.eos_id} : std::vector<int32_t>();
    }
    const Json chat = config.value("chat_template", Json());
    if (chat.is_string()) data.chat_template = chat.get<std::string>();
  }
  if (data.chat_template.empty() && fs::exists(directory / "chat_template.jinja")) {
    data.chat_template = read_text_file(directory / "chat_template.jinja", kMostTemplate);
  }
  if (add_bos && data.bos_id >= 0 && data.prefix_ids.empty()) data.prefix_ids = {data.bos_id};
  if (data.eos_id >= 0) data.end_ids.push_back(data.eos_id);
  const fs::path generation = directory / "generation_config.json";
  if (fs::exists(generation)) {
    const Json eos = read_json_file(generation).value("eos_token_id", Json());
    const Json ids = eos.is_array() ? eos : Json::array({eos});
    for (const Json& id : ids) {
      if (id.is_number_integer()) data.end_ids.push_back(id.get<int32_t>());
    }
  }
  return data;
}

}  // namespace espalier
