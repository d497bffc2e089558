// Messages for whoever watches a run: on stderr, one line each. Results never go through here.
#pragma once

#include <memory>
#include <string_view>

namespace espalier {

enum class LogLevel { kDebug, kInfo, kWarning, kOff };

// A value that is passed along; copies write to the same place. Thread-safe.
class Log {
 public:
  explicit Log(LogLevel lowest = LogLevel::kInfo);

  void debug(std::string_view text) const { write(LogLevel::kDebug, text); }
  void info(std::string_view text) const { write(LogLevel::kInfo, text); }
  void warning(std::string_view text) const { write(LogLevel::kWarning, text); }

 private:
  void write(LogLevel level, std::string_view text) const;

  struct Sink;
  std::shared_ptr<Sink> sink_;
};

}  // namespace espalier
