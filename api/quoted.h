// Text of a user in an error message, for the code beside libcache.so: near/ and cli/. Not installed.
#pragma once

#include "core/base/quoted.h"
