#include "cli/survey.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "cli/text.h"

namespace memstream::cli {

Json entry_json(const memstream_entry_t& entry) {
  return {{"key", json_text(key_of(entry))},
          {"value_size", entry.value_size},
          {"stored_size", entry.stored_size},
          {"access_count", entry.access_count},
          {"created_at_ms", entry.created_at_ms},
          {"last_access_ms", entry.last_access_ms},
          {"expires_at_ms", entry.expires_at_ms},
          {"flags", entry.flags},
          {"shard", entry.shard}};
}

// ---- the highest ----

bool TopEntries::is_higher(const memstream_entry_t& a, const memstream_entry_t& b) const {
  return measure_(a) != measure_(b) ? measure_(a) > measure_(b) : key_of(a) < key_of(b);
}

void TopEntries::add(const memstream_entry_t& entry) {
  const auto higher = [this](const memstream_entry_t& a, const memstream_entry_t& b) { return is_higher(a, b); };
  if (heap_.size() == limit_) {
    if (limit_ == 0 || !is_higher(entry, heap_.front())) return;
    std::pop_heap(heap_.begin(), heap_.end(), higher);
    heap_.pop_back();
  }
  heap_.push_back(entry);
  std::push_heap(heap_.begin(), heap_.end(), higher);
}

std::vector<memstream_entry_t> TopEntries::sorted() const {
  std::vector<memstream_entry_t> entries = heap_;
  std::sort(entries.begin(), entries.end(),
            [this](const memstream_entry_t& a, const memstream_entry_t& b) { return is_higher(a, b); });
  return entries;
}

// ---- prefixes ----

std::string_view PrefixGroups::prefix_of(std::string_view key) const {
  std::size_t end = 0;
  std::size_t begin = std::string_view::npos;
  for (const std::string& separator : separators_) {
    const std::size_t place = key.find(separator);
    if (place == std::string_view::npos || place >= begin) continue;
    begin = place;
    end = place + separator.size();
  }
  return key.substr(0, end);
}

void PrefixGroups::add(const memstream_entry_t& entry) {
  const std::string_view prefix = prefix_of(key_of(entry));
  auto found = groups_.find(prefix);
  if (found == groups_.end() && (limit_ == 0 || groups_.size() < limit_)) {
    found = groups_.emplace(std::string(prefix), Group{}).first;
  }
  Group& group = found == groups_.end() ? others_ : found->second;
  for (Group* sum : {&group, &all_}) {
    sum->entries += 1;
    sum->stored_bytes += entry.stored_size;
    sum->accesses += entry.access_count;
  }
}

std::vector<std::pair<std::string, PrefixGroups::Group>> PrefixGroups::sorted() const {
  std::vector<std::pair<std::string, Group>> sorted(groups_.begin(), groups_.end());
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return a.second.stored_bytes != b.second.stored_bytes ? a.second.stored_bytes > b.second.stored_bytes
                                                          : a.first < b.first;
  });
  return sorted;
}

// ---- spreads ----

void Spread::add(const memstream_entry_t& entry) {
  const auto since = [this](std::uint64_t instant) { return now_ms_ > instant ? now_ms_ - instant : 0; };
  std::uint64_t value = 0;
  switch (of_) {
    case Of::kSize:
      value = entry.value_size;
      break;
    case Of::kAge:
      value = since(entry.created_at_ms);
      break;
    case Of::kIdle:
      value = since(entry.last_access_ms);
      break;
    case Of::kTtl:
      if (entry.expires_at_ms == 0) {
        ++never_;
        return;
      }
      value = entry.expires_at_ms > now_ms_ ? entry.expires_at_ms - now_ms_ : 0;
      break;
  }
  ++counts_[static_cast<std::size_t>(std::bit_width(value))];
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> Spread::buckets() const {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> buckets;
  for (std::size_t width = 0; width < counts_.size(); ++width) {
    const std::uint64_t below = width < 64 ? std::uint64_t{1} << width : UINT64_MAX;
    if (counts_[width] != 0) buckets.emplace_back(below, counts_[width]);
  }
  return buckets;
}

Json Spread::json() const {
  Json rows = Json::array();
  for (const auto& [below, count] : buckets()) rows.push_back({{"below", below}, {"entries", count}});
  return {{"of", kSpreadNames[static_cast<std::size_t>(of_)]},
          {"unit", of_ == Of::kSize ? "bytes" : "ms"},
          {"buckets", rows},
          {"never", never_}};
}

// ---- the map ----

BlockRange block_of(const memstream_entry_t& entry, std::uint64_t segment_size) {
  // A value ends where its block ends, but for rounding.
  const std::uint64_t end = std::min(entry.data_offset + entry.value_size, segment_size);
  return {end - std::min(entry.stored_size, end), end};
}

void FillMap::add(const BlockRange& block) {
  auto begin = static_cast<double>(block.begin);
  const auto end = static_cast<double>(block.end);
  for (auto cell = static_cast<std::size_t>(begin / cell_bytes_); cell < fill_.size() && begin < end; ++cell) {
    const double cell_end = std::min(end, static_cast<double>(cell + 1) * cell_bytes_);
    fill_[cell] += (cell_end - begin) / cell_bytes_;
    begin = cell_end;
  }
}

std::vector<double> FillMap::parts() const {
  std::vector<double> parts = fill_;
  for (double& part : parts) part = std::min(part, 1.0);
  return parts;
}

// ---- all of it ----

Survey::Survey(std::uint64_t now_ms, std::uint64_t segment_size, const std::vector<std::string>& separators)
    : begin_ms_(now_ms),
      segment_size_(segment_size),
      largest_(kTop, [](const memstream_entry_t& entry) { return entry.value_size; }),
      most_read_(kTop, [](const memstream_entry_t& entry) { return entry.access_count; }),
      prefixes_(separators, kPrefixesKnown),
      map_(segment_size, kCells) {
  for (const auto of : {Spread::Of::kSize, Spread::Of::kAge, Spread::Of::kTtl, Spread::Of::kIdle}) {
    spreads_.emplace_back(of, now_ms);
  }
}

void Survey::add(const memstream_entry_t& entry) {
  largest_.add(entry);
  most_read_.add(entry);
  prefixes_.add(entry);
  for (Spread& spread : spreads_) spread.add(entry);
  map_.add(block_of(entry, segment_size_));
}

Json Survey::json(double share, std::uint64_t end_ms) const {
  const auto rows_of = [](const TopEntries& top) {
    Json rows = Json::array();
    for (const memstream_entry_t& entry : top.sorted()) rows.push_back(entry_json(entry));
    return rows;
  };
  const auto group_json = [](const PrefixGroups::Group& group) {
    return Json{{"entries", group.entries}, {"stored_bytes", group.stored_bytes}, {"accesses", group.accesses}};
  };
  Json prefixes = Json::array();
  PrefixGroups::Group others = prefixes_.others();
  for (const auto& [prefix, group] : prefixes_.sorted()) {
    if (prefixes.size() < kPrefixes) {
      Json row = {{"prefix", json_text(prefix)}};
      row.update(group_json(group));
      prefixes.push_back(row);
    } else {
      others.entries += group.entries;
      others.stored_bytes += group.stored_bytes;
      others.accesses += group.accesses;
    }
  }
  Json spreads = Json::object();
  for (const Spread& spread : spreads_) {
    Json json = spread.json();
    const std::string name = json["of"];
    spreads[name] = std::move(json);
  }
  Json fill = Json::array();
  for (const double part : map_.parts()) fill.push_back(std::lround(100 * part));
  return {{"begin_ms", begin_ms_},
          {"end_ms", end_ms},
          {"entries", entries()},
          {"share", share},
          {"largest", rows_of(largest_)},
          {"most_read", rows_of(most_read_)},
          {"prefixes", prefixes},
          {"other_prefixes", group_json(others)},
          {"all_prefixes", group_json(prefixes_.all())},
          {"histograms", spreads},
          {"map", {{"size_bytes", segment_size_}, {"fill_percent", fill}}}};
}

}  // namespace memstream::cli
