// Cards are whole, and SPECs that break them are refused by name.
#include "attention/card.h"

#include <gtest/gtest.h>

#include <set>

#include "attention/operator.h"
#include "core/error.h"

namespace espalier {
namespace {

const AttentionShape kShape{.heads = 2, .heads_kv = 1, .dim_k = 8, .dim_v = 8, .hidden = 8};

TEST(Cards, AreWhole) {
  std::set<std::string> names;
  for (const AttentionCard* card : attention_cards()) {
    EXPECT_TRUE(names.insert(card->name).second) << card->name << " twice";
    EXPECT_EQ(find_card(card->name), card);
    EXPECT_FALSE(card->summary.empty() || card->paper.empty()) << card->name;
    EXPECT_EQ((card->summary + card->paper).find('\n'), std::string::npos) << card->name;
    EXPECT_TRUE(card->make || card->additive.form) << card->name;
    EXPECT_EQ(bool{card->additive.form}, bool{card->additive.features}) << card->name;
    std::set<std::string> options;
    for (const OptionInfo& option : card->options) {
      EXPECT_TRUE(options.insert(option.name).second) << card->name << " " << option.name;
      EXPECT_FALSE(option.meaning.empty()) << card->name << " " << option.name;
    }
  }
  EXPECT_EQ(find_card("telepathy"), nullptr);
}

// A default that the card itself would refuse is of no use to a user who writes it down.
TEST(Cards, TakeTheirOwnDefaults) {
  for (const AttentionCard* card : attention_cards()) {
    for (const OptionInfo& option : card->options) {
      if (option.fallback.empty() || option.fallback.ends_with("Dk")) continue;
      const auto spec = AttentionSpec::parse(card->name + "(" + option.name + "=" + option.fallback + ")");
      EXPECT_NO_THROW(AttentionOptions(spec, *card)) << spec.text();
    }
  }
}

TEST(Cards, TryEveryOptionInTheirSamples) {
  for (const AttentionCard* card : attention_cards()) {
    std::set<std::string> tried;
    for (const auto& list : {card->samples, card->in_models, card->specs_to_measure()}) {
      EXPECT_FALSE(list.empty()) << card->name;
      for (const std::string& text : list) {
        const AttentionSpec spec = AttentionSpec::parse(text);
        EXPECT_EQ(spec.name(), card->name);
        EXPECT_NO_THROW(make_mechanism(spec, kShape)) << text;
      }
    }
    for (const std::string& text : card->samples) {
      for (const OptionInfo& option : card->options) {
        if (!AttentionSpec::parse(text).value(option.name, "").empty()) tried.insert(option.name);
      }
    }
    for (const OptionInfo& option : card->options) EXPECT_TRUE(tried.count(option.name)) << card->name << option.name;
  }
}

std::string refusal(const std::string& text) {
  try {
    make_mechanism(AttentionSpec::parse(text), kShape);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "no refusal";
}

TEST(Options, AreRefusedByName) {
  EXPECT_EQ(refusal("softmax(group=8)"), "[attention 'softmax(group=8)'] expected no options, got 'group'");
  EXPECT_EQ(refusal("window(size=64)"),
            "[attention 'window(size=64)'] expected options out of group|sinks|taps, got 'size'");
  EXPECT_EQ(refusal("window(group=-4)"), "[attention 'window(group=-4)'] expected group in [1, 4096], got '-4'");
  EXPECT_EQ(refusal("lolcats(taps=x)"), "[attention 'lolcats(taps=x)'] expected taps in [0, 256], got 'x'");
  EXPECT_EQ(refusal("flash(local=none)"),
            "[attention 'flash(local=none)'] expected local out of blocked|terraced, got 'none'");
  EXPECT_EQ(refusal("flash_global(scale=count|none)"),
            "[attention 'flash_global(scale=count|none)'] expected scale out of count|groups|none, got 'count|none'");
  EXPECT_EQ(refusal("cosformer"),
            "[attention 'cosformer', layer 0] expected the longest text that it will meet, got none; "
            "try cosformer(length=8192)");
  EXPECT_EQ(refusal("augmented(local=none,global=none,taps=0)"),
            "[attention 'augmented(global=none,local=none,taps=0)'] expected at least one part, got none");
  EXPECT_EQ(refusal("augmented(global=softmax)"),
            "[attention, global part] expected a name out of none, flash_global, transnormer, linear, relu, angular, "
            "cosformer, performer, rfa, hedgehog, got 'softmax'");
  EXPECT_EQ(refusal("augmented(global=rfa(feature=3))"),
            "[attention 'rfa(feature=3)'] expected options out of features, got 'feature'");
  EXPECT_EQ(refusal("hybrid(group=0)"), "[attention 'hybrid(group=0)'] expected group in [1, 4096], got '0'");
  EXPECT_EQ(refusal("linformer(group=8,rank=9)"),
            "[attention 'linformer(group=8,rank=9)'] expected a rank of at most 8, the group, got 9");
  EXPECT_EQ(refusal("performer(features=3,form=hyperbolic)"),
            "[attention 'performer(features=3,form=hyperbolic)'] expected an even number of features, got 3");
  const std::string unknown = refusal("telepathy");
  EXPECT_TRUE(unknown.starts_with("[attention] expected a name out of softmax, flash_local, flash_global, "))
      << unknown;
  EXPECT_TRUE(unknown.ends_with(", hedgehog, got 'telepathy'")) << unknown;
}

// A card from outside the tree: its options are checked, and its name is listed.
TEST(Options, OfCardsFromOutsideAreCheckedToo) {
  const AttentionCard* conv = find_card("conv");
  const AttentionCard own{.name = "own", .options = conv->options, .make = conv->make};
  EXPECT_EQ(make_mechanism(AttentionSpec::parse("own(taps=3)"), kShape, {own})->layout().tail, 2);
  for (const char* text : {"own(tap=3)", "own(taps=0)"}) {
    EXPECT_THROW(make_mechanism(AttentionSpec::parse(text), kShape, {own}), InvalidArgument) << text;
  }
  try {
    make_mechanism(AttentionSpec::parse("other"), kShape, {own});
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find(", own, got 'other'"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace espalier
