//! The stream of the keys of all servers of a type.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    future::poll_fn,
    mem,
    ops::Bound,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use crate::{engine::services::Services, storage::StorageError};

/// The number of keys per read.
const PAGE: usize = 4096;

/// The keys of all servers of a type, in memory and stored, as a [`Stream`]. Returned by
/// [`Runtime::keys`](crate::Runtime::keys), which has an example.
///
/// Each key occurs once, in the order of the keys' bytes. The stream reads the storage in pages and
/// is not a snapshot: a server that is created or deleted meanwhile may be included or missing. It
/// can be polled outside of tokio.
pub struct Keys {
    kind: &'static str,
    services: Arc<Services>,
    /// The keys of servers in memory, which may not be stored yet.
    live: BTreeSet<Arc<str>>,
    page: VecDeque<Arc<str>>,
    prefix: Arc<str>,
    /// Where the next page begins.
    from: Bound<Arc<str>>,
    reading: Option<Pin<Box<dyn Future<Output = Page> + Send>>>,
    ended: bool,
}

type Page = Result<Vec<Arc<str>>, StorageError>;

impl Keys {
    pub(crate) fn new(
        kind: &'static str,
        services: Arc<Services>,
        live: BTreeSet<Arc<str>>,
    ) -> Self {
        Self {
            kind,
            services,
            live,
            page: VecDeque::new(),
            prefix: "".into(),
            from: Bound::Unbounded,
            reading: None,
            ended: false,
        }
    }

    /// Restricts the stream to keys that begin with `prefix`. Call it before the first key is read.
    ///
    /// The cost depends on the number of these keys, and not on that of the others.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Player;
    /// # #[persistent_server] impl Player {}
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// for key in ["eu/ada", "eu/bob", "us/cyd"] {
    ///     runtime.start::<Player>(key, ()).await?;
    /// }
    /// let mut players = runtime.keys::<Player>().with_prefix("eu/").starting_at("eu/b");
    /// assert_eq!(&*players.next().await.unwrap()?, "eu/bob");
    /// assert!(players.next().await.is_none());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self.live.retain(|key| key.starts_with(prefix));
        self.starting_at(prefix)
    }

    /// Leaves out the keys before `key`, in the order of the keys' bytes. Call it before the first
    /// key is read.
    #[must_use]
    pub fn starting_at(mut self, key: &str) -> Self {
        let is_later = match &self.from {
            Bound::Included(from) | Bound::Excluded(from) => &**from < key,
            Bound::Unbounded => true,
        };
        if is_later {
            self.from = Bound::Included(key.into());
            self.live = self.live.split_off(key);
        }
        self
    }

    /// Returns the next key, or `None` after the last one.
    ///
    /// # Errors
    /// If the storage cannot be read. The next call tries again.
    ///
    /// # Cancel safety
    /// This method is cancel safe: if the future is dropped, no key is lost.
    pub async fn next(&mut self) -> Option<Result<Arc<str>, StorageError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Reads the page after the last key.
    fn read(&self) -> Pin<Box<dyn Future<Output = Page> + Send>> {
        let (kind, services, from) = (self.kind, self.services.clone(), self.from.clone());
        Box::pin(async move {
            let from = from.as_ref().map(|key| &**key);
            services.in_tokio(services.storage().keys(kind, from, PAGE)).await
        })
    }

    /// Merges the keys of servers in memory into a page.
    fn merge(&mut self, mut stored: Vec<Arc<str>>) {
        let count = stored.len();
        let with_prefix = stored.partition_point(|key| key.starts_with(&*self.prefix));
        stored.truncate(with_prefix);
        self.ended = count < PAGE || with_prefix < count;
        let last = stored.last().cloned().filter(|_| !self.ended);
        let behind = match &last {
            Some(last) => self.live.split_off(last),
            None => BTreeSet::new(),
        };
        let live = mem::replace(&mut self.live, behind);
        if !live.is_empty() {
            stored.extend(live);
            stored.sort_unstable();
            stored.dedup();
        }
        if let Some(last) = last {
            self.from = Bound::Excluded(last);
        }
        self.page = stored.into();
    }
}

impl Stream for Keys {
    type Item = Result<Arc<str>, StorageError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(key) = self.page.pop_front() {
                // The last key of a page may be in `live` too.
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
