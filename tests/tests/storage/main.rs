//! Tests of the storages and of their file format.

mod fixtures;
mod storage;
