// CRC-32 as zlib has it (ISO-HDLC, polynomial 0xedb88320 reflected), eight bytes at a time.
#pragma once

#include <cstdint>
#include <cstring>

namespace lkops {
namespace runtime {

struct Crc32Tables {
  uint32_t of[8][256];
  constexpr Crc32Tables() : of() {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0u);
      of[0][i] = value;
    }
    for (int k = 1; k < 8; ++k)
      for (uint32_t i = 0; i < 256; ++i) of[k][i] = of[k - 1][i] >> 8 ^ of[0][of[k - 1][i] & 255];
  }
};

inline uint32_t crc32(const void* data, int64_t bytes) {
  static constexpr Crc32Tables tables;
  const auto& of = tables.of;
  const unsigned char* p = static_cast<const unsigned char*>(data);
  uint32_t crc = 0xffffffffu;
  for (; bytes >= 8; bytes -= 8, p += 8) {
    const uint32_t low = crc ^ (p[0] | p[1] << 8 | p[2] << 16 | static_cast<uint32_t>(p[3]) << 24);
    crc = of[7][low & 255] ^ of[6][low >> 8 & 255] ^ of[5][low >> 16 & 255] ^ of[4][low >> 24] ^ of[3][p[4]] ^
          of[2][p[5]] ^ of[1][p[6]] ^ of[0][p[7]];
  }
  for (; bytes > 0; --bytes, ++p) crc = crc >> 8 ^ of[0][(crc ^ *p) & 255];
  return ~crc;
}

}  // namespace runtime
}  // namespace lkops
