//! Empty: the examples are the programs in the folder of `Cargo.toml`.
