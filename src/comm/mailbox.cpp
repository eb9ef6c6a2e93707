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

constexpr std::uint64_t kMagic = 0x3278'6f62'6c69'616d;  // "mailbox2"
constexpr std::int64_t kPage = 4096;
constexpr std::int64_t kMaxCount = std::int64_t{1} << 40;

static_assert(std::atomic_ref<std::uint64_t>::is_always_lock_free);  // it is shared by processes

std::int64_t array_bytes(std::int64_t count) {
  return (count * static_cast<std::int64_t>(sizeof(float)) + kPage - 1) / kPage * kPage;
}

// Reserved at once: running out later would be a SIGBUS in the middle of a round.
void reserve(int descriptor, std::int64_t first, std::int64_t bytes) {
  const int error = posix_fallocate(descriptor, first, bytes);
  if (error != 0)
    fail(ExitCode::io, "mailbox of {} bytes: {}: free memory or shared-memory quota on this host",
         first + bytes, std::strerror(error));
}

}  // namespace

struct Mailbox::Header {
  std::uint64_t magic;
  Counts counts;
  std::uint64_t beats;
};

std::int64_t Mailbox::Counts::before_feedback_bytes() const {
  return kPage + 2 * array_bytes(parameters) + array_bytes(state);
}
std::int64_t Mailbox::Counts::total_bytes() const {
  return before_feedback_bytes() + array_bytes(parameters);
}

Mailbox::Mailbox(Descriptor descriptor, Counts counts) : descriptor_(std::move(descriptor)), counts_(counts) {
  void* memory = mmap(nullptr, static_cast<std::size_t>(counts.total_bytes()), PROT_READ | PROT_WRITE,
                      MAP_SHARED, descriptor_.get(), 0);
  if (memory == MAP_FAILED)
    fail(ExitCode::io, "mailbox of {} bytes: {}", counts.total_bytes(), std::strerror(errno));
  base_ = static_cast<std::byte*>(memory);
}

Mailbox Mailbox::create(std::int64_t parameter_count, std::int64_t state_count) {
  SPILLWAY_CHECK(parameter_count > 0 && parameter_count <= kMaxCount);
  SPILLWAY_CHECK(state_count >= 0 && state_count <= kMaxCount);
  const Counts counts = {parameter_count, state_count};
  Descriptor descriptor(memfd_create("spillway-mailbox", MFD_CLOEXEC));
  if (!descriptor) fail(ExitCode::io, "mailbox: {}", std::strerror(errno));
  reserve(descriptor.get(), 0, counts.before_feedback_bytes());
  if (ftruncate(descriptor.get(), counts.total_bytes()) != 0)
    fail(ExitCode::io, "mailbox of {} bytes: {}", counts.total_bytes(), std::strerror(errno));
  Mailbox mailbox(std::move(descriptor), counts);
  const Header header = {kMagic, counts, 0};
  std::memcpy(mailbox.base_, &header, sizeof header);
  return mailbox;
}

Mailbox Mailbox::attach(Descriptor descriptor) {
  Header header = {};
  struct stat status = {};
  if (fstat(descriptor.get(), &status) != 0 ||
      pread(descriptor.get(), &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header))
    fail(ExitCode::bad_data, "mailbox: descriptor {} cannot be read", descriptor.get());
  const auto [parameters, state] = header.counts;
  if (header.magic != kMagic || parameters <= 0 || parameters > kMaxCount || state < 0 || state > kMaxCount ||
      status.st_size != header.counts.total_bytes())
    fail(ExitCode::bad_data, "mailbox: descriptor {} is not a mailbox", descriptor.get());
  return Mailbox(std::move(descriptor), header.counts);
}

Mailbox::Mailbox(Mailbox&& other) noexcept
    : descriptor_(std::move(other.descriptor_)),
      counts_(other.counts_),
      base_(std::exchange(other.base_, nullptr)) {}

Mailbox::~Mailbox() {
  if (base_ != nullptr) munmap(base_, static_cast<std::size_t>(counts_.total_bytes()));
}

std::span<float> Mailbox::array(std::int64_t first_byte, std::int64_t count) const {
  return {reinterpret_cast<float*>(base_ + first_byte), static_cast<std::size_t>(count)};
}

std::span<float> Mailbox::contribution() const { return array(kPage, counts_.parameters); }
std::span<float> Mailbox::velocity() const {
  return array(kPage + array_bytes(counts_.parameters), counts_.parameters);
}
std::span<float> Mailbox::optimizer_state() const {
  return array(kPage + 2 * array_bytes(counts_.parameters), counts_.state);
}
std::span<float> Mailbox::feedback() const {
  return array(counts_.before_feedback_bytes(), counts_.parameters);
}

std::uint64_t& Mailbox::counter() const { return reinterpret_cast<Header*>(base_)->beats; }
void Mailbox::beat() const { ++std::atomic_ref(counter()); }
std::uint64_t Mailbox::beats() const { return std::atomic_ref(counter()).load(); }

void Mailbox::reserve_feedback() const {
  reserve(descriptor_.get(), counts_.before_feedback_bytes(), array_bytes(counts_.parameters));
}

}  // namespace spillway
