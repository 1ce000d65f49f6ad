//! A projection's program: JavaScript that folds events into states, and may write events of its
//! own. The engine is QuickJS; what the program sees of the server is `prelude.js`.
//!
//! ```text
//!   source ─ compile ─> Script ── definition()                what it follows, and how
//!                         │
//!   an event ─ partition ─┤       which state it belongs to, if the program says that
//!   a state  ─ load ──────┤       of a partition: from a checkpoint, or its first
//!   an event ─ handle ────┴─> Said { writes, lines }          and the state is another
//!                         state(), result()                   as JSON
//! ```
//!
//! A program that throws, takes too long or needs too much memory ends in a [`ScriptError`]. Its
//! states may then be anything: the script is to be dropped, and begun again from a checkpoint.
//!
//! INVARIANT: knows no store, no clock, no file and no network, and lends the program none. How long
//! is too long is counted in steps of the engine, so it is the same on each machine; only what the
//! program takes from `Date` and `Math.random` may differ between two runs.

mod definition;
mod error;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rquickjs::function::{Args, IntoArgs};
use rquickjs::{CatchResultExt, CaughtError, Context, Ctx, FromJs, Function, Object, Runtime};

pub use definition::{Definition, Partitioning, Sources};
pub use error::{Doing, ScriptError};

/// Bytes of a program's source. A program of 10,000 lines has half of it.
pub const SOURCE_SIZE_MAX: usize = 1024 * 1024;
/// Bytes of the engine's heap: the states in memory, the event, and what is made of it.
pub const HEAP_SIZE_MAX: usize = 128 * 1024 * 1024;
/// Bytes of the engine's stack. A quarter of what a thread of the server has.
pub const STACK_SIZE_MAX: usize = 512 * 1024;
/// How often the engine may look up from one event; it does after each ten thousand steps. About
/// half a second.
pub const LOOKS_MAX: u32 = 2_000;

const PRELUDE: &str = include_str!("prelude.js");
/// Where the prelude's functions are found again; a program cannot name it by accident.
const DRIVER: &str = "$daybook driver";

/// An event, as a program is given it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its stream.
    pub stream: &'a str,
    /// Its revision there.
    pub revision: u64,
    /// Its type.
    pub event_type: &'a str,
    /// Its id.
    pub id: &'a str,
    /// Whether its data is JSON.
    pub is_json: bool,
    /// Its data, if that is text.
    pub data: Option<&'a str>,
    /// Its metadata, if that is text.
    pub metadata: Option<&'a str>,
    /// The metadata of the link through which it was read, if it was.
    pub link_metadata: Option<&'a str>,
    /// The category that the program follows, if it follows one.
    pub category: Option<&'a str>,
}

/// An event that a program wants written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// To where.
    pub stream: String,
    /// Its type.
    pub event_type: String,
    /// Whether its data is JSON.
    pub is_json: bool,
    /// Its data.
    pub data: String,
    /// Its metadata: a JSON object.
    pub metadata: Option<String>,
}

/// What a program said of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// To be written, in order.
    pub writes: Vec<Write>,
    /// To be logged.
    pub lines: Vec<String>,
}

/// A program that was compiled, with the states of the partitions that were loaded.
pub struct Script {
    context: Context,
    looks: Arc<AtomicU32>,
    definition: Definition,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script").field("definition", &self.definition).finish_non_exhaustive()
    }
}

/// A write, as the prelude notes it.
type Noted = (String, String, bool, String, Option<String>);

impl Script {
    /// Runs `source`, which says what it follows and names its handlers.
    ///
    /// # Errors
    /// [`ScriptError`]
    pub fn compile(source: &str) -> Result<Script, ScriptError> {
        if source.len() > SOURCE_SIZE_MAX {
            return Err(ScriptError::TooLarge { size: source.len() });
        }
        let runtime = Runtime::new().map_err(|_| ScriptError::Memory { doing: Doing::Compile })?;
        runtime.set_memory_limit(HEAP_SIZE_MAX);
        runtime.set_max_stack_size(STACK_SIZE_MAX);
        let looks = Arc::new(AtomicU32::new(LOOKS_MAX));
        let left = looks.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_err()
        })));
        let context =
            Context::full(&runtime).map_err(|_| ScriptError::Memory { doing: Doing::Compile })?;
        let mut script = Script { context, looks, definition: Definition::default() };
        script.definition = script
            .within(Doing::Compile, |ctx| {
                let driver: Object<'_> = ctx.eval(PRELUDE)?;
                ctx.globals().set(DRIVER, driver.clone())?;
                ctx.eval::<(), _>(source)?;
                let said: String = driver.get::<_, Function<'_>>("begin")?.call(())?;
                Ok(said)
            })
            .and_then(|said| Definition::parse(&said))?;
        Ok(script)
    }

    /// What the program says of itself.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The partition that the program's function says `event` belongs to, if to any.
    ///
    /// # Errors
    /// [`ScriptError`]
    pub fn partition(&mut self, event: &Event<'_>) -> Result<Option<String>, ScriptError> {
        self.with_event(Doing::Partition, "partition", "", event)
    }

    /// Takes up the state of `partition`: JSON, or its first one.
    ///
    /// # Errors
    /// [`ScriptError`]
    pub fn load(&mut self, partition: &str, state: Option<&str>) -> Result<(), ScriptError> {
        self.call(Doing::Load, "load", (partition, state))
    }

    /// Takes up the state that all partitions share: JSON, or its first one.
    ///
    /// # Errors
    /// [`ScriptError`]
    pub fn load_shared(&mut self, state: Option<&str>) -> Result<(), ScriptError> {
        self.call(Doing::Load, "loadShared", (state,))
    }

    /// Tells the program of the first event of `partition`, before it handles it.
    ///
    /// # Errors
    /// [`ScriptError`]
    pub fn created(&mut self, partition: &str, event: &Event<'_>) -> Result<Said, ScriptError> {
        self.with_event(Doing::Handle, "created", partition, event).and_then(said)
    }

    /// Has the program handle `event`; the state of `partition` is loaded.
    ///
    /// # Errors
    /// [`ScriptError`]
    pub fn handle(&mut self, partition: &str, event: &Event<'_>) -> Result<Said, ScriptError> {
        self.with_event(Doing::Handle, "handle", partition, event).and_then(said)
    }

    /// Tells the program that the stream of `partition` was deleted: for ever, or `softly`.
    ///
    /// # Errors
    /// [`ScriptError`]
    pub fn deleted(&mut self, partition: &str, how: Deleted) -> Result<Said, ScriptError> {
        let told = self.call(Doing::Handle, "deleted", (partition, how == Deleted::Softly));
        told.and_then(said)
    }

    /// The state of `partition`, as JSON; none if the program has set it to null.
    ///
    /// # Errors
    /// [`ScriptError`]
    pub fn state(&mut self, partition: &str) -> Result<Option<String>, ScriptError> {
        self.call(Doing::Show, "state", (partition,))
    }

    /// The state that all partitions share, as JSON.
    ///
    /// # Errors
    /// [`ScriptError`]
    pub fn shared(&mut self) -> Result<Option<String>, ScriptError> {
        self.call(Doing::Show, "shared", ())
    }

    /// What the program's transformations and filters make of the state of `partition`.
    ///
    /// # Errors
    /// [`ScriptError`]
    pub fn result(&mut self, partition: &str) -> Result<Option<String>, ScriptError> {
        self.call(Doing::Show, "result", (partition,))
    }

    /// Lets go of the state of `partition`.
    ///
    /// # Errors
    /// [`ScriptError`]
    pub fn forget(&mut self, partition: &str) -> Result<(), ScriptError> {
        self.call(Doing::Load, "forget", (partition,))
    }

    fn with_event<R>(
        &mut self,
        doing: Doing,
        function: &'static str,
        partition: &str,
        event: &Event<'_>,
    ) -> Result<R, ScriptError>
    where
        R: for<'js> FromJs<'js>,
    {
        self.within(doing, |ctx| {
            let mut args = Args::new(ctx.clone(), 10);
            args.push_arg(event.stream)?;
            args.push_arg(event.revision)?;
            args.push_arg(event.event_type)?;
            args.push_arg(event.id)?;
            args.push_arg(event.is_json)?;
            args.push_arg(event.data)?;
            args.push_arg(event.metadata)?;
            args.push_arg(event.link_metadata)?;
            args.push_arg(partition)?;
            args.push_arg(event.category)?;
            driver(ctx, function)?.call_arg(args)
        })
    }

    fn call<A, R>(
        &mut self,
        doing: Doing,
        function: &'static str,
        args: A,
    ) -> Result<R, ScriptError>
    where
        A: for<'js> IntoArgs<'js>,
        R: for<'js> FromJs<'js>,
    {
        self.within(doing, |ctx| driver(ctx, function)?.call(args))
    }

    /// Runs `work` in the engine, for as long as an event may take.
    fn within<R>(
        &mut self,
        doing: Doing,
        work: impl FnOnce(&Ctx<'_>) -> rquickjs::Result<R>,
    ) -> Result<R, ScriptError> {
        self.looks.store(LOOKS_MAX, Ordering::Relaxed);
        let worked = self.context.with(|ctx| {
            work(&ctx).catch(&ctx).map_err(|caught| match caught {
                CaughtError::Exception(exception) => {
                    let message = exception.message().unwrap_or_default();
                    let place = exception.stack().unwrap_or_default();
                    // The first line of the stack that is the program's own.
                    let place = place.lines().find(|line| line.contains("eval_script"));
                    (message, place.map(|line| line.trim().to_owned()))
                }
                CaughtError::Value(value) => {
                    let shown = value.as_string().and_then(|text| text.to_string().ok());
                    (shown.unwrap_or_else(|| "something that is no error".to_owned()), None)
                }
                CaughtError::Error(error) => (error.to_string(), None),
            })
        });
        worked.map_err(|(message, place)| {
            if self.looks.load(Ordering::Relaxed) == 0 {
                ScriptError::TooLong { doing }
            } else if message == "out of memory" {
                ScriptError::Memory { doing }
            } else {
                ScriptError::Threw { doing, message, place: place.unwrap_or_default() }
            }
        })
    }
}

/// How a stream was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It can be written to again.
    Softly,
    /// For ever.
    ForEver,
}

fn driver<'js>(ctx: &Ctx<'js>, function: &'static str) -> rquickjs::Result<Function<'js>> {
    ctx.globals().get::<_, Object<'_>>(DRIVER)?.get(function)
}

fn said(told: Option<String>) -> Result<Said, ScriptError> {
    let Some(told) = told else {
        return Ok(Said::default());
    };
    // A program may have changed what JSON is made of.
    let (noted, lines): (Vec<Noted>, Vec<String>) =
        serde_json::from_str(&told).map_err(|error| ScriptError::Threw {
            doing: Doing::Handle,
            message: format!("what it writes cannot be read: {error}"),
            place: String::new(),
        })?;
    let writes = noted.into_iter().map(|(stream, event_type, is_json, data, metadata)| Write {
        stream,
        event_type,
        is_json,
        data,
        metadata,
    });
    Ok(Said { writes: writes.collect(), lines })
}
