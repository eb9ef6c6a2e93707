#include "comm/mailbox.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.hpp"

namespace spillway {
namespace {

constexpr std::uint64_t kMagic = 0x3178'6f62'6c69'616d;  // "mailbox1"
constexpr std::int64_t kPage = 4096;
constexpr int kArrays = 3, kReservedArrays = 2;
constexpr std::int64_t kMaxCount = std::int64_t{1} << 40;

struct Header {
  std::uint64_t magic;
  std::int64_t parameter_count;
  std::uint64_t beats;
};
static_assert(std::atomic_ref<std::uint64_t>::is_always_lock_free);  // it is shared by processes

std::int64_t array_bytes(std::int64_t count) {
  return (count * static_cast<std::int64_t>(sizeof(float)) + kPage - 1) / kPage * kPage;
}
std::int64_t total_bytes(std::int64_t count) { return kPage + kArrays * array_bytes(count); }

// Reserved at once: running out later would be a SIGBUS in the middle of a round.
void reserve(int descriptor, std::int64_t first, std::int64_t bytes) {
  const int error = posix_fallocate(descriptor, first, bytes);
  if (error != 0)
    fail(ExitCode::io, "mailbox of {} bytes: {}: free memory or shared-memory quota on this host",
         first + bytes, std::strerror(error));
}

}  // namespace

Mailbox::Mailbox(Descriptor descriptor, std::int64_t count)
    : descriptor_(std::move(descriptor)), count_(count) {
  void* memory = mmap(nullptr, static_cast<std::size_t>(total_bytes(count)), PROT_READ | PROT_WRITE,
                      MAP_SHARED, descriptor_.get(), 0);
  if (memory == MAP_FAILED)
    fail(ExitCode::io, "mailbox of {} bytes: {}", total_bytes(count), std::strerror(errno));
  base_ = static_cast<std::byte*>(memory);
}

Mailbox Mailbox::create(std::int64_t parameter_count) {
  SPILLWAY_CHECK(parameter_count > 0 && parameter_count <= kMaxCount);
  Descriptor descriptor(memfd_create("spillway-mailbox", MFD_CLOEXEC));
  if (!descriptor) fail(ExitCode::io, "mailbox: {}", std::strerror(errno));
  reserve(descriptor.get(), 0, kPage + kReservedArrays * array_bytes(parameter_count));
  if (ftruncate(descriptor.get(), total_bytes(parameter_count)) != 0)
    fail(ExitCode::io, "mailbox of {} bytes: {}", total_bytes(parameter_count), std::strerror(errno));
  Mailbox mailbox(std::move(descriptor), parameter_count);
  const Header header = {kMagic, parameter_count, 0};
  std::memcpy(mailbox.base_, &header, sizeof header);
  return mailbox;
}

Mailbox Mailbox::attach(Descriptor descriptor) {
  Header header = {};
  struct stat status = {};
  if (fstat(descriptor.get(), &status) != 0 ||
      pread(descriptor.get(), &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header))
    fail(ExitCode::bad_data, "mailbox: descriptor {} cannot be read", descriptor.get());
  if (header.magic != kMagic || header.parameter_count <= 0 || header.parameter_count > kMaxCount ||
      status.st_size != total_bytes(header.parameter_count))
    fail(ExitCode::bad_data, "mailbox: descriptor {} is not a mailbox", descriptor.get());
  return Mailbox(std::move(descriptor), header.parameter_count);
}

Mailbox::Mailbox(Mailbox&& other) noexcept
    : descriptor_(std::move(other.descriptor_)),
      count_(other.count_),
      base_(std::exchange(other.base_, nullptr)) {}

Mailbox::~Mailbox() {
  if (base_ != nullptr) munmap(base_, static_cast<std::size_t>(total_bytes(count_)));
}

std::span<float> Mailbox::array(int index) const {
  return {reinterpret_cast<float*>(base_ + kPage + index * array_bytes(count_)),
          static_cast<std::size_t>(count_)};
}

std::span<float> Mailbox::contribution() const { return array(0); }
std::span<float> Mailbox::velocity() const { return array(1); }
std::span<float> Mailbox::feedback() const { return array(2); }

std::uint64_t& Mailbox::counter() const { return reinterpret_cast<Header*>(base_)->beats; }
void Mailbox::beat() const { ++std::atomic_ref(counter()); }
std::uint64_t Mailbox::beats() const { return std::atomic_ref(counter()).load(); }

void Mailbox::reserve_feedback() const {
  reserve(descriptor_.get(), kPage + kReservedArrays * array_bytes(count_), array_bytes(count_));
}

}  // namespace spillway
