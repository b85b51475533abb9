// The slots of a Redis cluster: keys, and what nodes say of who serves which.
#include <doctest/doctest.h>

#include <array>
#include <string>

#include "near/slots.h"

namespace memstream::near {
namespace {

TEST_CASE("a key's slot is that of its tag") {
  CHECK(slot_of("123456789") == 0x31c3);  // The check value of CRC16/XMODEM.
  CHECK(slot_of("foo") == 12182);
  CHECK(slot_of("") == 0);
  CHECK(slot_of("{user:1}.name") == slot_of("user:1"));
  CHECK(slot_of("a{user:1}{b}") == slot_of("user:1"));
  CHECK(slot_of("a{}b") != slot_of(""));  // An empty tag is none.
  CHECK(slot_of("{}{user:1}") != slot_of("user:1"));
  CHECK(slot_of("a{b") != slot_of("b"));
  CHECK(slot_of("{{a}}") == slot_of("{a"));
}

std::string line(const std::string& id, const std::string& flags, int epoch, const std::string& slots) {
  return id + " 127.0.0.1:7000@17000 " + flags + " - 0 1426238317239 " + std::to_string(epoch) + " connected" +
         (slots.empty() ? "" : " " + slots) + "\n";
}

TEST_CASE("a node says which slots are its own, and which it hands over") {
  const std::optional<OwnView> own =
      parse_nodes(line("other", "master", 3, "10-20") +
                  line("self", "myself,master", 5, "0-9 30 [7->-other] [40-<-other]") + line("third", "slave", 9, ""));
  REQUIRE(own);
  CHECK(own->id == "self");
  CHECK(own->is_master);
  CHECK(own->config_epoch == 5);
  CHECK(own->is_latest);  // A replica shows the epoch of its master.
  CHECK(own->settled.count() == 10);
  CHECK(own->settled.test(0));
  CHECK(own->settled.test(30));
  CHECK_FALSE(own->settled.test(7));
  CHECK_FALSE(own->settled.test(40));
  const std::optional<OwnView> replica = parse_nodes(line("self", "myself,slave", 1, "") + line("o", "master", 2, "0"));
  REQUIRE(replica);
  CHECK_FALSE(replica->is_master);
  CHECK_FALSE(replica->is_latest);
  CHECK_FALSE(parse_nodes(""));
  CHECK_FALSE(parse_nodes("ERR something else\n"));
  CHECK_FALSE(parse_nodes(line("self", "myself,master", 1, "0-16384")));
  CHECK_FALSE(parse_nodes(line("self", "myself,master", 1, "9-8")));
  CHECK_FALSE(parse_nodes(line("other", "master", 1, "0-5")));
}

TEST_CASE("what a node has lost, also in between, is seen") {
  OwnView before;
  before.id = "self";
  before.is_master = true;
  before.config_epoch = 5;
  before.is_latest = true;
  before.settled.set(1).set(2);
  OwnView now = before;
  CHECK(has_kept_slots(before, now));
  now.settled.set(3);  // Another slot takes nothing away.
  CHECK(has_kept_slots(before, now));
  now.settled.reset(2);
  CHECK_FALSE(has_kept_slots(before, now));
  now = before;
  now.config_epoch = 6;  // It may have lost a slot and got it back.
  CHECK_FALSE(has_kept_slots(before, now));
  now = before;
  now.is_latest = false;  // Another node may have taken a slot that this one had for a moment only.
  CHECK_FALSE(has_kept_slots(before, now));
  CHECK(has_kept_slots(now, now));
  CHECK(has_kept_slots(now, before));
  now = before;
  now.id = "another";
  CHECK_FALSE(has_kept_slots(before, now));
  now = before;
  now.is_master = false;
  CHECK_FALSE(has_kept_slots(before, now));
}

TEST_CASE("a redirection names a node") {
  const std::optional<Redirection> moved = parse_redirection("MOVED 3999 127.0.0.1:6381", "10.0.0.1:7000");
  REQUIRE(moved);
  CHECK_FALSE(moved->is_ask);
  CHECK(moved->slot == 3999);
  CHECK(moved->node == "127.0.0.1:6381");
  const std::optional<Redirection> ask = parse_redirection("ASK 1 ::1:6381", "10.0.0.1:7000");
  REQUIRE(ask);
  CHECK(ask->is_ask);
  CHECK(ask->node == "[::1]:6381");
  CHECK(parse_redirection("MOVED 1 :6381", "10.0.0.1:7000")->node == "10.0.0.1:6381");  // The host that answers.
  for (const char* other : {"", "ERR", "MOVED", "MOVED 1", "MOVED x 1:1", "MOVED 16384 1:1", "MOVED 1 host",
                            "MOVED 1 h:0", "WRONGTYPE a b"}) {
    CAPTURE(other);
    CHECK_FALSE(parse_redirection(other, "10.0.0.1:7000"));
  }
}

TEST_CASE("the answer to CLUSTER SLOTS, whole or broken") {
  redisReply host{}, port{}, first{}, last{}, node{}, range{}, all{};
  std::string text = "127.0.0.1";
  host.type = REDIS_REPLY_STRING;
  host.str = text.data();
  host.len = text.size();
  port.type = first.type = last.type = REDIS_REPLY_INTEGER;
  port.integer = 7000;
  first.integer = 5;
  last.integer = 9;
  std::array<redisReply*, 2> node_parts{&host, &port};
  std::array<redisReply*, 4> range_parts{&first, &last, &node, &node};
  std::array<redisReply*, 1> ranges{&range};
  node.type = range.type = all.type = REDIS_REPLY_ARRAY;
  node.elements = node_parts.size();
  node.element = node_parts.data();
  range.elements = range_parts.size();
  range.element = range_parts.data();
  all.elements = 1;
  all.element = ranges.data();
  std::vector<SlotRange> parsed = parse_slots(all, "10.0.0.1:1");
  REQUIRE(parsed.size() == 1);
  CHECK(parsed[0].first == 5);
  CHECK(parsed[0].last == 9);
  CHECK(parsed[0].master == "127.0.0.1:7000");
  CHECK(parsed[0].replicas == std::vector<std::string>{"127.0.0.1:7000"});
  host.type = REDIS_REPLY_NIL;  // The node does not know its own address.
  host.str = nullptr;
  host.len = 0;
  CHECK(parse_slots(all, "10.0.0.1:1")[0].master == "10.0.0.1:7000");
  port.integer = 0;
  CHECK(parse_slots(all, "10.0.0.1:1").empty());
  port.integer = 7000;
  last.integer = 16384;
  CHECK(parse_slots(all, "10.0.0.1:1").empty());
  last.integer = 4;
  CHECK(parse_slots(all, "10.0.0.1:1").empty());
  last.integer = 9;
  range.elements = 2;
  CHECK(parse_slots(all, "10.0.0.1:1").empty());
  all.type = REDIS_REPLY_ERROR;
  CHECK(parse_slots(all, "10.0.0.1:1").empty());
}

}  // namespace
}  // namespace memstream::near
