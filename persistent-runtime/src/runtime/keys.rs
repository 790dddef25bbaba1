//! All servers of a type.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use crate::{api::server::Server, storage::Storage, storage::StorageError};

/// How many keys are read at once.
const PAGE: usize = 256;

/// The keys of all servers of a type, live and stored, each once and in the
/// order of their bytes: a [`Stream`], made by
/// [`Runtime::keys`](crate::Runtime::keys).
///
/// It reads as it goes along: a server that comes or goes meanwhile may be
/// missed or shown.
pub struct Keys {
    kind: &'static str,
    storage: Arc<dyn Storage>,
    /// Those in memory, which may not be stored yet.
    live: BTreeSet<Arc<str>>,
    page: VecDeque<Arc<str>>,
    after: Option<Arc<str>>,
    reading: Option<Pin<Box<dyn Future<Output = Page> + Send>>>,
    ended: bool,
}

type Page = Result<Vec<Arc<str>>, StorageError>;

impl Keys {
    pub(crate) fn new<S: Server>(storage: Arc<dyn Storage>, live: BTreeSet<Arc<str>>) -> Self {
        Self {
            kind: S::NAME,
            storage,
            live,
            page: VecDeque::new(),
            after: None,
            reading: None,
            ended: false,
        }
    }

    /// The next key, or `None` behind the last one.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// If the storage can't read; the next call tries again.
    pub async fn next(&mut self) -> Option<Result<Arc<str>, StorageError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// What is stored behind the last key.
    fn read(&self) -> Pin<Box<dyn Future<Output = Page> + Send>> {
        let (kind, storage, after) = (self.kind, self.storage.clone(), self.after.clone());
        Box::pin(async move { storage.keys(kind, after.as_deref(), PAGE).await })
    }

    /// Puts the live keys among those of a page.
    fn merge(&mut self, stored: Vec<Arc<str>>) {
        self.ended = stored.len() < PAGE;
        let mut keys: BTreeSet<_> = stored.into_iter().collect();
        let last = keys.last().cloned().filter(|_| !self.ended);
        let behind = match &last {
            Some(last) => self.live.split_off(last),
            None => BTreeSet::new(),
        };
        keys.append(&mut std::mem::replace(&mut self.live, behind));
        self.after = last;
        self.page = keys.into_iter().collect();
    }
}

impl Stream for Keys {
    type Item = Result<Arc<str>, StorageError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(key) = self.page.pop_front() {
                // The last key of a page may be among the live ones as well.
                self.live.remove(&key);
                return Poll::Ready(Some(Ok(key)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let mut reading = self.reading.take().unwrap_or_else(|| self.read());
            match reading.as_mut().poll(cx) {
                Poll::Ready(Ok(keys)) => self.merge(keys),
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => {
                    self.reading = Some(reading);
                    return Poll::Pending;
                }
            }
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("kind", &self.kind).finish_non_exhaustive()
    }
}
