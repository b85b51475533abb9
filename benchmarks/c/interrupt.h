// A benchmark that is told to end (SIGINT, SIGTERM) ends in order: it removes its segments, files and servers.
#pragma once

namespace memstream::bench {

// From now on both signals are noted instead of ending this process.
void note_interrupts();

// Throws std::runtime_error if one came. Called wherever a run can be left.
void stop_if_interrupted();

}  // namespace memstream::bench
