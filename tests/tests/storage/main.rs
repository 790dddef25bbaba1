//! Tests of the storages and of their file format.

mod files;
mod fixtures;
mod round_trip;
mod storage;
