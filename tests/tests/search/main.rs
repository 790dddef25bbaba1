//! Layers that search for failures. They run for minutes, and some use child processes.

mod damage;
mod faults;
mod histories;
mod kill;
mod overload;
mod power;
mod sweep;
