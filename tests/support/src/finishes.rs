use std::{
    panic::resume_unwind,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

/// Runs `work` on a tokio runtime with one thread, with paused time if `paused`. Returns
/// false if it does not finish within 5 s. A test that meets a deadlock, an endless loop
/// or a task that never yields fails instead of hanging.
pub fn finishes<F: Future<Output = ()>>(
    paused: bool,
    work: impl FnOnce() -> F + Send + 'static,
) -> bool {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(paused)
            .build()
            .expect("a tokio runtime");
        tokio.block_on(work());
        drop(tokio);
        sender.send(()).ok();
    });
    match receiver.recv_timeout(Duration::from_secs(5)) {
        Ok(()) => true,
        Err(RecvTimeoutError::Timeout) => false,
        Err(RecvTimeoutError::Disconnected) => {
            resume_unwind(thread.join().expect_err("the thread panicked"))
        }
    }
}
