// The heap of a stepped child.
//
// The C library's heap takes other ways through its lists in each child, as its parent left it: no two walks would have
// the same instructions, and many of them would be its own. A stepped child takes its memory from one buffer and gives
// nothing back.
#pragma once

namespace memstream::torture {

// From here on this process allocates from the buffer. For a child that is about to be stepped.
void use_stepped_heap();

}  // namespace memstream::torture
