//! `exec_command`, `write_stdin`, `control_session` and `list_sessions`.

use std::time::Duration;

use nix::sys::signal::Signal;
use shell_escalation::terminal::{End, Error, ExecRequest, Size, Streams, TerminalId};
use tokio::time::Instant;

use super::arguments::{
    Action, ControlSession, DEFAULT_EXEC_YIELD_MS, DEFAULT_WRITE_YIELD_MS, ExecCommand, ListSessions,
    MOST_YIELD_MS, WriteStdin,
};
use super::call::Call;
use super::output::{Collected, DEFAULT_TOKENS};
use super::session_results::{ControlResult, SessionList, SessionResult};
use super::sessions::Started;
use super::workplace::Workplace;

impl Workplace {
    /// Starts a command, and waits for its output for a time.
    ///
    /// # Errors
    /// Why it was not started, for the model.
    pub(super) async fn exec_command(
        &self,
        arguments: ExecCommand,
        call: &Call<'_>,
    ) -> Result<SessionResult, String> {
        let shell = self.shell(arguments.shell.as_deref())?;
        let option = if self.login(arguments.login)? { "-lc" } else { "-c" };
        let until = deadline(arguments.yield_time_ms.unwrap_or(DEFAULT_EXEC_YIELD_MS))?;
        let workdir = self.workdir(arguments.workdir.as_deref());
        let argv = [
            shell.clone().into_os_string(),
            option.into(),
            arguments.cmd.clone().into(),
        ];
        let streams = if arguments.tty {
            Streams::Terminal(Size::default())
        } else {
            Streams::Pipes
        };
        let request = ExecRequest::new(shell, argv, workdir)
            .on(streams)
            .with_env(self.env.clone());
        let sessions = self.sessions()?;
        let id = call.unless_cancelled(sessions.terminals.open(request)).await?;
        let id = id.map_err(for_model)?;
        let tokens = arguments.max_output_tokens.unwrap_or(DEFAULT_TOKENS);
        let collecting = call.reporting(sessions.collect(id, until, arguments.tty, tokens));
        match call.unless_cancelled(collecting).await {
            Ok(collected) => {
                let started = Started {
                    command: arguments.cmd,
                    tty: arguments.tty,
                };
                // Not before: what was never answered is not listed.
                sessions.add(id, started);
                self.session_result(id, collected, None, call).await
            }
            Err(cancelled) => {
                // The client will never know of the session.
                let _ = sessions.close(id).await;
                Err(cancelled)
            }
        }
    }

    /// Writes to a session, if there is something to write, and waits for its output for a time.
    ///
    /// # Errors
    /// Why that can't be done, for the model.
    pub(super) async fn write_stdin(
        &self,
        arguments: WriteStdin,
        call: &Call<'_>,
    ) -> Result<SessionResult, String> {
        let sessions = self.sessions()?;
        let id = TerminalId::new(arguments.session_id);
        let until = deadline(arguments.yield_time_ms.unwrap_or(DEFAULT_WRITE_YIELD_MS))?;
        let chars = arguments.chars.unwrap_or_default();
        let mut taken = None;
        if !chars.is_empty() {
            let writing = sessions.terminals.write(id, chars.as_bytes());
            // A program that starts may take a moment to read.
            let until = until.max(Instant::now() + Duration::from_secs(1));
            let writing = call.reporting(tokio::time::timeout_at(until, writing));
            taken = Some(match call.unless_cancelled(writing).await? {
                Ok(Ok(())) => true,
                Ok(Err(Error::NotReading(_))) | Err(_) => false,
                Ok(Err(error)) => return Err(for_model(error)),
            });
        }
        let tty = sessions
            .running()
            .get(&id.number())
            .is_some_and(|started| started.tty);
        let tokens = arguments.max_output_tokens.unwrap_or(DEFAULT_TOKENS);
        let collecting = call.reporting(sessions.collect(id, until, tty, tokens));
        let collected = call.unless_cancelled(collecting).await?;
        self.session_result(id, collected, taken, call).await
    }

    /// Interrupts, resizes or ends a session.
    ///
    /// # Errors
    /// Why that can't be done, for the model.
    pub(super) async fn control_session(&self, arguments: ControlSession) -> Result<ControlResult, String> {
        let sessions = self.sessions()?;
        let id = TerminalId::new(arguments.session_id);
        let size = match (arguments.rows, arguments.columns) {
            (Some(rows), Some(columns)) => Some(Size {
                rows: rows.get(),
                columns: columns.get(),
            }),
            (None, None) => None,
            _ => return Err("pass both rows and columns, or neither".to_owned()),
        };
        if size.is_some() != (arguments.action == Action::Resize) {
            return Err("rows and columns are for the action resize, which needs both".to_owned());
        }
        let done = match (arguments.action, size) {
            (Action::Interrupt, _) => sessions.terminals.signal(id, Signal::SIGINT).map(|()| Vec::new()),
            (Action::Resize, size) => {
                let resized = sessions.terminals.resize(id, size.unwrap_or_default());
                resized.map(|()| Vec::new())
            }
            (Action::Close, _) => sessions.close(id).await,
        };
        Ok(ControlResult {
            session_id: arguments.session_id,
            action: arguments.action,
            survivors: done.map_err(for_model)?,
        })
    }

    /// Which sessions there are.
    ///
    /// # Errors
    /// When this server has none.
    pub(super) fn list_sessions(&self, _: &ListSessions) -> Result<SessionList, String> {
        Ok(SessionList {
            sessions: self.sessions()?.list(),
        })
    }

    /// What was collected, as a result. A session whose command has ended is closed.
    async fn session_result(
        &self,
        id: TerminalId,
        collected: Result<(Collected, Option<End>), Error>,
        input_taken: Option<bool>,
        call: &Call<'_>,
    ) -> Result<SessionResult, String> {
        let (collected, end) = collected.map_err(for_model)?;
        let mut survivors = Vec::new();
        if end.is_some() {
            match self.sessions()?.close(id).await {
                Ok(left) => survivors = left,
                // Another call has been faster.
                Err(Error::Unknown(_)) => {}
                Err(error) => return Err(for_model(error)),
            }
        }
        let shown = collected.shown();
        let (exit_code, signal) = match end {
            None => (None, None),
            Some(End::Exited(code)) => (Some(code), None),
            Some(End::Killed(signal)) => (Some(128 + signal), Some(signal)),
        };
        Ok(SessionResult {
            session_id: end.is_none().then_some(id.number()),
            exit_code,
            signal,
            sandbox: exit_code.and_then(|code| self.confined.if_failed(code, signal)),
            output: shown.text,
            bytes_left_out: shown.left_out,
            bytes_replaced: shown.replaced,
            input_taken,
            waits_for_approval: self.link.questions.any(),
            wall_time_seconds: call.elapsed().as_secs_f64(),
            survivors,
        })
    }
}

/// An error in the words of the tools, which know sessions.
fn for_model(error: Error) -> String {
    match error {
        Error::Unknown(id) => format!(
            "there is no session {id}: its command has ended, or it was closed, or it had to make room for a newer one; \
             list_sessions says which there are"
        ),
        Error::NoSize(id) => {
            format!("session {id} has no terminal: start the command again with tty to have one")
        }
        Error::Ended(id) => {
            format!("the command of session {id} has ended: call write_stdin to read its last output")
        }
        error => error.to_string(),
    }
}

/// When a call that waits so long is to return.
fn deadline(yield_time_ms: u64) -> Result<Instant, String> {
    if yield_time_ms > MOST_YIELD_MS {
        return Err(format!(
            "yield_time_ms is at most {MOST_YIELD_MS}: call write_stdin again, without chars, to wait longer"
        ));
    }
    Ok(Instant::now() + Duration::from_millis(yield_time_ms))
}
