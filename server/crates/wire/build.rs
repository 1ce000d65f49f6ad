//! Compiles our `.proto` files in pure Rust: no protoc is needed to build Daybook.

use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 15] = [
    "shared.proto",
    "status.proto",
    "streams.proto",
    "gossip.proto",
    "server_features.proto",
    "persistent.proto",
    "snapshots.proto",
    "transactions.proto",
    "streams_v2.proto",
    "errors_v2.proto",
    "errors_server.proto",
    "users.proto",
    "operations.proto",
    "monitoring.proto",
    "projections.proto",
];

#[expect(clippy::disallowed_methods, reason = "a build script has no store to go through")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .include_file("proto.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
