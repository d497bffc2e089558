// What the program says of the attentions that it knows.
#pragma once

namespace espalier {

// Every mechanism's options, summary and source, on stdout: text, or one JSON object.
void print_attentions(bool json);

}  // namespace espalier
