#include "core/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace espalier {
namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::off;
}

}  // namespace

struct Log::Sink {
  spdlog::logger logger{"espalier", std::make_shared<spdlog::sinks::stderr_sink_mt>()};
};

Log::Log(LogLevel lowest) : sink_(std::make_shared<Sink>()) {
  sink_->logger.set_level(spdlog_level(lowest));
  sink_->logger.set_pattern("%v");
}

void Log::write(LogLevel level, std::string_view text) const {
  const char* prefix = level == LogLevel::kWarning ? "warning: " : "";
  sink_->logger.log(spdlog_level(level), "{}{}", prefix, spdlog::string_view_t(text.data(), text.size()));
  sink_->logger.flush();
}

}  // namespace espalier
