//! Looks at files for which a file system may have to be waited for, perhaps for ever: on threads of their own, of which no
//! session takes those that others need.
//!
//! What such a thread waits for can't be called off (a read of FUSE or NFS ends with the file system's answer, or with it). On
//! the threads of the host's runtime a few hundred of them, of as many sessions as it takes, would leave none for anything else.

use std::sync::{Arc, LazyLock};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinError;

/// How many threads of a session look at files at a time, as long as some are free for all.
const OF_SESSION: usize = 16;

/// Half of all threads are for whichever sessions come first, the other half is given out one by one for each session.
const HALF: usize = 256;

/// Enough for walks along paths and copies, which keep little on their stack; most of them are never touched.
const STACK: usize = 512 * 1024;

/// The threads of all sessions of this process.
static POOL: Pool = Pool::new(HALF);

static THREADS: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread()
        .max_blocking_threads(2 * HALF)
        .thread_stack_size(STACK)
        .thread_name("files")
        .build()
        .expect("a runtime that neither drives nor waits asks nothing of the system")
});

/// Permits for the threads that look for all sessions.
#[derive(Debug)]
struct Pool {
    common: Semaphore,
    /// For one thread of each session.
    reserved: Semaphore,
}

impl Pool {
    const fn new(half: usize) -> Self {
        Self {
            common: Semaphore::const_new(half),
            reserved: Semaphore::const_new(half),
        }
    }
}

/// A session's looks at files.
#[derive(Clone, Debug)]
pub(crate) struct Looks {
    pool: &'static Pool,
    /// One permit for each thread out of the common half.
    common: Arc<Semaphore>,
    /// The permit for the session's reserved thread.
    reserved: Arc<Semaphore>,
}

impl Default for Looks {
    /// Those of a session that has none yet.
    fn default() -> Self {
        Self::of(&POOL)
    }
}

impl Looks {
    fn of(pool: &'static Pool) -> Self {
        Self {
            pool,
            common: Arc::new(Semaphore::new(OF_SESSION - 1)),
            reserved: Arc::new(Semaphore::new(1)),
        }
    }

    /// Calls `look` on a thread that may wait, once the session may have another one. If this is dropped before, it isn't
    /// called; afterwards the thread goes on alone, and counts as long as it does.
    ///
    /// # Errors
    /// When `look` panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let permit = self.permit().await;
        let host = Handle::current();
        let looking = THREADS.spawn_blocking(move || {
            let _permit = permit;
            let _host = host.enter();
            look()
        });
        looking.await
    }

    async fn permit(&self) -> impl Send + use<> {
        let of_common = permits(&self.common, &self.pool.common);
        let of_reserved = permits(&self.reserved, &self.pool.reserved);
        tokio::select! {
            biased;
            permits = of_common => permits,
            permits = of_reserved => permits,
        }
    }
}

/// The session's permit first: of one session no more wait for those of all than it may have.
async fn permits(
    session: &Arc<Semaphore>,
    all: &'static Semaphore,
) -> (tokio::sync::OwnedSemaphorePermit, SemaphorePermit<'static>) {
    let of_session = Arc::clone(session).acquire_owned().await;
    let of_all = all.acquire().await;
    let never_closed = "no semaphore of looks is closed";
    (of_session.expect(never_closed), of_all.expect(never_closed))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::task::JoinHandle;

    use super::*;

    /// A look that ends when the sender goes, and what it says when it begins.
    struct Stuck {
        begun: tokio::sync::oneshot::Receiver<()>,
        _held: mpsc::Sender<()>,
        looking: JoinHandle<Result<(), JoinError>>,
    }

    fn stuck(looks: &Looks) -> Stuck {
        let (held, end) = mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let looks = looks.clone();
        let looking = tokio::spawn(async move {
            let look = move || {
                begin.send(()).unwrap();
                end.recv().unwrap_err();
            };
            looks.run(look).await
        });
        Stuck {
            begun,
            _held: held,
            looking,
        }
    }

    fn pool(half: usize) -> &'static Pool {
        Box::leak(Box::new(Pool::new(half)))
    }

    #[tokio::test]
    async fn sessions_whose_looks_never_end_leave_others_a_thread_each() {
        let pool = pool(40);
        let mut held = Vec::new();
        // As many as there are of the common half, and of the next sessions one each.
        for expected in [16, 16, 11, 1, 1] {
            let looks = Looks::of(pool);
            let mut stuck: Vec<Stuck> = (0..50).map(|_| stuck(&looks)).collect();
            for stuck in &mut stuck[..expected] {
                (&mut stuck.begun).await.unwrap();
            }
            // The next session's thread is there all the same, and those that wait have not begun when it has.
            assert_eq!(Looks::of(pool).run(|| 7).await.unwrap(), 7);
            let waiting = stuck[expected..].iter_mut();
            assert!(
                waiting
                    .map(|stuck| stuck.begun.try_recv())
                    .all(|begun| begun.is_err()),
                "{expected}"
            );
            held.push(stuck);
        }
    }

    #[tokio::test]
    async fn a_look_counts_until_its_thread_is_done_and_is_not_begun_for_nobody() {
        let pool = pool(OF_SESSION);
        let looks = Looks::of(pool);
        let mut first: Vec<Stuck> = (0..OF_SESSION).map(|_| stuck(&looks)).collect();
        for stuck in &mut first {
            (&mut stuck.begun).await.unwrap();
        }
        // Their requests go, and the threads stay.
        for stuck in &first {
            stuck.looking.abort();
        }
        let mut waiting = stuck(&looks);
        let withdrawn = stuck(&looks);
        withdrawn.looking.abort();
        assert!(withdrawn.looking.await.unwrap_err().is_cancelled());
        assert!(waiting.begun.try_recv().is_err());
        assert_eq!(
            looks.common.available_permits() + looks.reserved.available_permits(),
            0
        );
        first.pop();
        waiting.begun.await.unwrap();
        assert!(withdrawn.begun.await.is_err());
    }

    #[tokio::test]
    async fn a_look_may_use_the_hosts_runtime() {
        let looks = Looks::default();
        let value = looks.run(|| Handle::current().spawn(async { 7 })).await.unwrap();
        assert_eq!(value.await.unwrap(), 7);
    }
}
