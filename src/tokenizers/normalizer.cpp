#include "tokenizers/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "core/error.h"

namespace espalier {
namespace {

void append(int32_t code, std::string& text) {
  utf8proc_uint8_t bytes[4];
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(utf8proc_encode_char(code, bytes)));
}

bool is_control(int32_t code) {
  if (code == '\t' || code == '\n' || code == '\r') return false;
  switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CS:
      return true;
    default:
      return false;
  }
}

bool is_chinese(int32_t code) {
  static constexpr struct {
    int32_t first, last;
  } kBlocks[] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
                 {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
  for (const auto& block : kBlocks) {
    if (code >= block.first && code <= block.last) return true;
  }
  return false;
}

std::string in_form(const std::string& text, int options) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &result, static_cast<utf8proc_option_t>(options | UTF8PROC_STABLE));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(result, std::free);
  if (length == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
  ESPALIER_CHECK(length >= 0);
  return {reinterpret_cast<const char*>(result), static_cast<size_t>(length)};
}

int form_options(const std::string& form) {
  if (form == "nfc") return UTF8PROC_COMPOSE;
  if (form == "nfd") return UTF8PROC_DECOMPOSE;
  if (form == "nfkc") return UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
  ESPALIER_CHECK(form == "nfkd");
  return UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
}

std::string cleaned(std::string_view text) {
  std::string result;
  each_character(text, [&](int32_t code, std::string_view bytes) {
    if (code == 0 || code == 0xFFFD || is_control(code)) return;
    if (is_white_space(code)) {
      result += ' ';
    } else {
      result += bytes;
    }
  });
  return result;
}

std::string with_chinese_apart(std::string_view text) {
  std::string result;
  each_character(text, [&](int32_t code, std::string_view bytes) {
    if (!is_chinese(code)) {
      result += bytes;
      return;
    }
    result += ' ';
    result += bytes;
    result += ' ';
  });
  return result;
}

std::string without_marks(std::string_view text) {
  std::string result;
  each_character(text, [&](int32_t code, std::string_view bytes) {
    if (utf8proc_category(code) != UTF8PROC_CATEGORY_MN) result += bytes;
  });
  return result;
}

std::string lower_case(std::string_view text) {
  std::string result;
  each_character(text, [&](int32_t code, std::string_view) {
    append(utf8proc_tolower(code), result);
    if (code == 0x130) append(0x307, result);  // I with a dot above: i and the dot
  });
  return result;
}

std::string stripped(std::string_view text, bool left, bool right) {
  size_t begin = text.size(), end = 0, at = 0;
  each_character(text, [&](int32_t code, std::string_view bytes) {
    if (!is_white_space(code)) {
      begin = std::min(begin, at);
      end = at + bytes.size();
    }
    at += bytes.size();
  });
  if (!left) begin = 0;
  if (!right) end = text.size();
  return std::string(begin < end ? text.substr(begin, end - begin) : std::string_view());
}

}  // namespace

bool is_white_space(int32_t code) {
  if ((code >= 9 && code <= 13) || code == 0x85) return true;
  switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return true;
    default:
      return false;
  }
}

bool is_punctuation(int32_t code) {
  if ((code >= 33 && code <= 47) || (code >= 58 && code <= 64) || (code >= 91 && code <= 96) ||
      (code >= 123 && code <= 126)) {
    return true;
  }
  switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return true;
    default:
      return false;
  }
}

std::string normalized(std::string_view text, const NormalizerData& steps) {
  std::string result(text);
  if (steps.clean) result = cleaned(result);
  if (steps.chinese_apart) result = with_chinese_apart(result);
  if (!steps.form.empty()) result = in_form(result, form_options(steps.form));
  if (steps.strip_accents) result = without_marks(in_form(result, UTF8PROC_DECOMPOSE));
  if (steps.lower_case) result = lower_case(result);
  if (steps.collapse_spaces) {
    const auto both_spaces = [](char a, char b) { return a == ' ' && b == ' '; };
    result.erase(std::unique(result.begin(), result.end(), both_spaces), result.end());
  }
  if (steps.strip_left || steps.strip_right) result = stripped(result, steps.strip_left, steps.strip_right);
  return result;
}

}  // namespace espalier
