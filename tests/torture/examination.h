// What a live peer must find after an operation that was killed somewhere, or ended.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tests/torture/live_peer.h"
#include "tests/torture/operations.h"

namespace memstream::torture {

class Examination {
 public:
  // `before`: what the cache holds when the operation begins.
  Examination(const Operation& operation, Scene& scene, Content before)
      : operation_(operation), scene_(scene), before_(std::move(before)), after_(before_) {}

  // What it holds when the operation has ended.
  void set_after(Content after) { after_ = std::move(after); }
  const Content& before() const { return before_; }
  const Content& after() const { return after_; }

  // Reads, scans, writes and checks. `ended`: the operation came to its end. `peer`: worked meanwhile, or null. Throws
  // Finding.
  void examine(bool ended, const LivePeer* peer);

  double longest_ms() const { return longest_ms_; }

 private:
  void look(bool ended) const;
  void scan(const Content& seen, bool ended, const LivePeer* peer) const;
  void use() const;
  Content get_all() const;
  void judge(const Content& seen, const Content& earlier, bool ended, const LivePeer* peer) const;
  void judge_one(const std::string& key, std::optional<std::string_view> value, const Content& earlier,
                 bool ended) const;
  void judge_watched(const std::string& key, std::optional<std::string_view> value, const LivePeer::Known& known) const;

  const Operation& operation_;
  Scene& scene_;
  Content before_;
  Content after_;
  double longest_ms_ = 0;
};

}  // namespace memstream::torture
