//! Reading encoded states and messages back before they are stored.

use crate::{
    codec::EncodeError,
    support::{
        catch::catch_unwind,
        sync::atomic::{AtomicBool, Ordering},
    },
};

/// Which states and messages are read back before they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckStates {
    Never,
    /// The first of each server type.
    First,
    Always,
}

/// The checks of one server type.
pub(crate) struct ReadBack {
    checks: CheckStates,
    state: AtomicBool,
    message: AtomicBool,
}

impl ReadBack {
    pub(crate) fn new(checks: CheckStates) -> Self {
        Self { checks, state: AtomicBool::new(false), message: AtomicBool::new(false) }
    }

    /// Runs the check of a state, unless it is not needed.
    pub(crate) fn check_state(
        &self,
        check: impl FnOnce() -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.check(&self.state, check)
    }

    /// Runs the check of a message, unless it is not needed.
    pub(crate) fn check_message(
        &self,
        check: impl FnOnce() -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.check(&self.message, check)
    }

    fn check(
        &self,
        has_passed: &AtomicBool,
        check: impl FnOnce() -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let is_needed = match self.checks {
            CheckStates::Never => false,
            CheckStates::First => !has_passed.load(Ordering::Relaxed),
            CheckStates::Always => true,
        };
        if is_needed {
            catch_unwind(check).unwrap_or_else(|panic| Err(EncodeError::panicked(&panic)))?;
            has_passed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how often a check runs of three that fail and three that pass.
    fn runs(checks: CheckStates) -> (usize, usize) {
        let read_back = ReadBack::new(checks);
        let (mut failing, mut passing) = (0, 0);
        for _ in 0..3 {
            let _ = read_back.check_state(|| {
                failing += 1;
                Err(EncodeError::panicked("the test"))
            });
        }
        for _ in 0..3 {
            let passes = || {
                passing += 1;
                Ok(())
            };
            read_back.check_state(passes).unwrap();
        }
        (failing, passing)
    }

    #[test]
    fn a_type_is_checked_until_a_check_has_passed() {
        assert_eq!(runs(CheckStates::Never), (0, 0));
        assert_eq!(runs(CheckStates::First), (3, 1));
        assert_eq!(runs(CheckStates::Always), (3, 3));
        let read_back = ReadBack::new(CheckStates::First);
        read_back.check_state(|| Ok(())).unwrap();
        let panics = || read_back.check_message(|| panic!("a Deserialize that panics"));
        for _ in 0..2 {
            assert!(panics().unwrap_err().to_string().contains("a Deserialize that panics"));
        }
    }
}
