//! Nothing here: the examples are the binaries beside this file's folder.
