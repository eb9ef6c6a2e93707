// Files that are HDF5 but not what the writer wrote: made with HDF5 itself, so that HDF5's own checks pass.
#include <hdf5.h>

#include <algorithm>
#include <functional>

#include "core/error.hpp"
#include "io/hdf5.hpp"
#include "io/seal.hpp"
#include "tests/unit/checkpoint_samples.hpp"

using namespace spillway;
using namespace spillway::testing;
using hdf5::Handle;

namespace {

// Changes the file as somebody else's program would. The seal is made anew: what comes after it must hold by itself.
void alter(const std::filesystem::path& file, const std::function<void(hid_t)>& change) {
  {
    const Handle handle(H5Fopen(file.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), H5Fclose);
    REQUIRE(handle);
    change(handle.get());
  }
  append_seal(file, {});
}

Handle create_dataset(hid_t root, const char* path, const std::vector<hsize_t>& extent, hid_t properties) {
  const Handle space(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr), H5Sclose);
  Handle dataset(H5Dcreate2(root, path, H5T_IEEE_F32LE, space.get(), H5P_DEFAULT, properties, H5P_DEFAULT),
                 H5Dclose);
  REQUIRE(dataset);
  return dataset;
}

void write_text_attribute(hid_t object, const char* name, const std::string& text) {
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose), space(H5Screate(H5S_SCALAR), H5Sclose);
  H5Tset_size(type.get(), text.size() + 1);
  const Handle attribute(H5Acreate2(object, name, type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT),
                         H5Aclose);
  REQUIRE(H5Awrite(attribute.get(), type.get(), text.c_str()) >= 0);
}

// A checkpoint with one dataset replaced by another of its name.
std::string refusal_of_replaced(const std::vector<hsize_t>& extent, bool chunked) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "a.h5";
  write_sample_state(file);
  alter(file, [&](hid_t root) {
    REQUIRE(H5Ldelete(root, "/model/lm_head.weight", H5P_DEFAULT) >= 0);
    const Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    if (chunked) {
      std::vector<hsize_t> chunk;
      for (const hsize_t size : extent) chunk.push_back(std::clamp<hsize_t>(size, 1, 1024));
      H5Pset_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data());
      H5Pset_deflate(properties.get(), 9);
    }
    const Handle dataset = create_dataset(root, "/model/lm_head.weight", extent, properties.get());
    write_text_attribute(dataset.get(), "xxh3", "00000000000000000000000000000000");
  });
  return refusal(file).substr(file.string().size());
}

}  // namespace

TEST_CASE("a dataset that claims 2^60 elements is refused before anything is allocated") {
  const std::string claim = ": dataset /model/lm_head.weight claims more bytes than the file has: damaged";
  CHECK(refusal_of_replaced({hsize_t{1} << 60}, false) == claim);
  CHECK(refusal_of_replaced({hsize_t{1} << 30, hsize_t{1} << 30}, false) == claim);
  CHECK(refusal_of_replaced({hsize_t{1} << 40, 4}, true) == claim);
  // None at all, by way of a product that would overflow.
  CHECK(refusal_of_replaced({hsize_t{1} << 61, hsize_t{1} << 61, 0}, true) ==
        ": its digest does not match its datasets: some are missing, added or replaced");
}

TEST_CASE("an HDF5 file of another program is foreign") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "foreign.h5";
  {
    const Handle handle(H5Fcreate(file.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
    create_dataset(handle.get(), "/temperature", {16}, H5P_DEFAULT);
  }
  CHECK(refusal(file) ==
        file.string() +
            ": has no seal at its end: truncated, changed by another program, or not a Spillway checkpoint");
  append_seal(file, {});
  CHECK(refusal(file) == file.string() + ": an HDF5 file, but not a Spillway checkpoint (attribute format)");
}

TEST_CASE("another version of the format is refused by name") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "a.h5";
  write_sample_state(file);
  alter(file, [](hid_t root) {
    const Handle attribute(H5Aopen(root, "version", H5P_DEFAULT), H5Aclose);
    const std::int64_t version = 99;
    REQUIRE(H5Awrite(attribute.get(), H5T_NATIVE_INT64, &version) >= 0);
  });
  CHECK(refusal(file) ==
        file.string() +
            ": checkpoint format version 99; this program reads versions 1 to 3: use a newer spillway");
}

TEST_CASE("datasets that are missing, added, swapped or changed are found") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "a.h5";
  write_sample_state(file);
  const std::string replaced = file.string() +
                               ": its digest does not match its datasets: some are missing, added or "
                               "replaced";
  SECTION("missing") {
    alter(file, [](hid_t root) { REQUIRE(H5Ldelete(root, "/model/lm_head.weight", H5P_DEFAULT) >= 0); });
    CHECK(refusal(file) == replaced);
  }
  SECTION("added") {
    alter(file, [](hid_t root) {
      const Handle dataset = create_dataset(root, "/model/more", {4}, H5P_DEFAULT);
      write_text_attribute(dataset.get(), "xxh3", "0");
    });
    CHECK(refusal(file) == replaced);
  }
  SECTION("swapped: two matrices of one shape under each other's name") {
    alter(file, [](hid_t root) {
      const std::string layer = "/model/transformer.h.0.attn.";
      const auto move = [&](const std::string& from, const std::string& to) {
        REQUIRE(H5Lmove(root, (layer + from).c_str(), root, (layer + to).c_str(), H5P_DEFAULT, H5P_DEFAULT) >=
                0);
      };
      move("c_q.weight", "other");
      move("c_k.weight", "c_q.weight");
      move("other", "c_k.weight");
    });
    CHECK(refusal(file) == replaced);
  }
  SECTION("changed in place") {
    alter(file, [](hid_t root) {
      const Handle dataset(H5Dopen2(root, "/model/resid_lambdas", H5P_DEFAULT), H5Dclose);
      const float value = 1;
      REQUIRE(H5Dwrite(dataset.get(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, &value) >= 0);
    });
    CHECK(refusal(file) == file.string() +
                               ": dataset /model/resid_lambdas does not match its checksum: the file is "
                               "damaged; use an older checkpoint");
  }
  SECTION("an attribute changed: the global step") {
    alter(file, [](hid_t root) {
      const Handle group(H5Gopen2(root, "/progress", H5P_DEFAULT), H5Gclose);
      const Handle attribute(H5Aopen(group.get(), "step", H5P_DEFAULT), H5Aclose);
      const std::int64_t step = 1000000;
      REQUIRE(H5Awrite(attribute.get(), H5T_NATIVE_INT64, &step) >= 0);
    });
    CHECK(refusal(file) ==
          file.string() + ": its attributes do not match their digest: some are missing, added or changed");
  }
  SECTION("a link out of the file is not followed") {
    alter(file, [](hid_t root) {
      REQUIRE(H5Lcreate_external("/etc/passwd", "/", root, "/model/outside", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    });
    CHECK(refusal(file) == "accepted");
    CHECK_FALSE(CheckpointReader(file).has("/model/outside"));
  }
}

TEST_CASE("h5dump and h5py read parameters under nanochat's names") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "a.h5";
  write_sample_state(file);
  const CommandResult dump =
      run_program({"h5dump", "-H", "-d", "/model/transformer.h.0.mlp.c_fc.weight", file.string()});
  INFO(dump.output);
  CHECK(dump.status == 0);
  CHECK(contains(dump.output, "DATATYPE  H5T_IEEE_F32LE"));
  CHECK(contains(dump.output, "( 64, 16 ) / ( 64, 16 )"));
  if (run_program({"/usr/bin/python3", "-c", "import h5py"}).status != 0) {
    WARN("h5py is not installed: skipped");
    return;
  }
  const CommandResult python = run_program(
      {"/usr/bin/python3", "-c",
       "import h5py, sys; f = h5py.File(sys.argv[1]); d = f['model/transformer.wte.weight']; "
       "print(d.shape, d.dtype, f['progress'].attrs['step'], f['history/loss_nats'][0], f.attrs['site'])",
       file.string()});
  INFO(python.output);
  CHECK(contains(python.output, "(64, 16) float32 12 6.0 "));
  CHECK(contains(python.output, "texas"));
}
