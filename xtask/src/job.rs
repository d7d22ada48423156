//! One child process: under a time limit, its output in a log file, and cleaned up after.
//!
//! Output goes to a file rather than a pipe, so that a grandchild which keeps it open cannot make
//! us wait; what is to be seen at once is read from the file as it grows.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::paths::Paths;
use crate::{Doing, Failure, Result, reaper, say};

/// How often a running child is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// How often a silent job says that it is still going.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// What cargo and rustup set for the programs that they run, which must not reach the cargo, of
/// maybe another toolchain, that we run in turn.
const NOT_INHERITED: &[&str] = &[
    "CARGO",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "RUSTC",
];

/// A child process to be.
#[derive(Debug)]
pub(crate) struct Job {
    name: String,
    command: Command,
    log: PathBuf,
    limit: Duration,
    shown: bool,
}

/// How a child process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    name: String,
    status: Option<ExitStatus>,
    limit: Duration,
    shown: bool,
    /// All that it printed, both streams as they came.
    pub(crate) output: String,
    /// How long it ran.
    pub(crate) took: Duration,
}

/// A child process that goes on while we do something else; ends when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    marker: String,
    reader: File,
    /// All that it has printed so far.
    pub(crate) output: String,
}

impl Job {
    /// `name` says in a few words what it does; it also names the log file.
    pub(crate) fn new(paths: &Paths, name: &str, program: impl AsRef<OsStr>) -> Self {
        let file: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let mut command = Command::new(program);
        command
            .current_dir(&paths.root)
            .env("PATH", paths.search_path())
            .stdin(Stdio::null());
        for (key, _) in std::env::vars_os() {
            let text = key.to_string_lossy();
            if NOT_INHERITED.contains(&&*text) || text.starts_with("CARGO_PKG_") {
                command.env_remove(&key);
            }
        }
        // A test that fails says where; what called it is noise among many steps.
        command.env("RUST_BACKTRACE", "0");
        // Cargo adds the libraries of its own compiler here.
        command.env_remove("LD_LIBRARY_PATH");
        Self {
            name: name.to_owned(),
            command,
            log: paths.own("logs").join(format!("{file}.log")),
            limit: Duration::from_secs(600),
            shown: false,
        }
    }

    /// One more argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Several arguments.
    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// A variable of the environment.
    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// The folder to run in; by default the work tree.
    pub(crate) fn within(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// The time after which it is killed. Ten minutes if not set.
    pub(crate) fn limit_s(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Prints its output as it comes.
    pub(crate) fn shown(mut self, shown: bool) -> Self {
        self.shown = shown;
        self
    }

    /// The command as one would type it.
    pub(crate) fn typed(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        words
            .map(OsStr::to_string_lossy)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Starts it and returns.
    pub(crate) fn start(mut self) -> Result<Running> {
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder).doing("make the folder for logs")?;
        }
        // A new file each time: another run may still be writing to the old one.
        let _ = fs::remove_file(&self.log);
        let doing = format!("write {}", self.log.display());
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .doing(&doing)?;
        let reader = File::open(&self.log).doing(&doing)?;
        let marker = reaper::marker();
        let child = self
            .command
            .env(reaper::MARKER, &marker)
            .stdout(log.try_clone().doing(&doing)?)
            .stderr(log)
            .spawn()
            .doing(format_args!("run {}", self.typed()))?;
        Ok(Running {
            child,
            marker,
            reader,
            output: String::new(),
        })
    }

    /// Runs it to its end, or to the limit. An exit code other than 0 is not an error here.
    pub(crate) fn run(self) -> Result<Ended> {
        let (name, limit, shown) = (self.name.clone(), self.limit, self.shown);
        let started = Instant::now();
        let mut next_sign = SIGN_OF_LIFE;
        let mut running = self.start()?;
        let status = loop {
            let status = running
                .child
                .try_wait()
                .doing(format_args!("wait for {name}"))?;
            running.read(shown);
            if status.is_some() || started.elapsed() > limit {
                break status;
            }
            if !shown && started.elapsed() > next_sign {
                let last = running.output.trim_end().lines().last().unwrap_or_default();
                let last: String = last.trim().chars().take(90).collect();
                say::note(&format!(
                    "… {name}, {}: {last}",
                    say::seconds(started.elapsed())
                ));
                next_sign += SIGN_OF_LIFE;
            }
            sleep(LOOK);
        };
        let output = std::mem::take(&mut running.output);
        Ok(Ended {
            name,
            status,
            limit,
            shown,
            output,
            took: started.elapsed(),
        })
    }

    /// Runs it; anything but success is an error that quotes the end of the output.
    pub(crate) fn success(self) -> Result<Ended> {
        self.run()?.success()
    }

    /// What it prints, without a log or a limit of its own; `None` unless it succeeds. For short
    /// questions such as `--version`.
    pub(crate) fn answer(mut self) -> Option<String> {
        let output = self.command.stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    }
}

impl Ended {
    /// Whether it ended by itself and with code 0.
    pub(crate) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// How it ended, in words.
    pub(crate) fn how(&self) -> String {
        match self.status {
            None => format!("ran out of time after {}", say::seconds(self.limit)),
            Some(status) if status.success() => "succeeded".to_owned(),
            Some(status) => match status.code() {
                Some(code) => format!("failed with code {code}"),
                None => format!("was ended: {status}"),
            },
        }
    }

    /// Itself if it succeeded.
    pub(crate) fn success(self) -> Result<Self> {
        if self.is_success() {
            return Ok(self);
        }
        let tail = if self.shown {
            String::new()
        } else {
            say::tail(&self.output, 30)
        };
        Err(Failure(format!("{} {}\n{tail}", self.name, self.how())))
    }
}

impl Running {
    /// Takes up what was printed since, and shows it if asked to.
    pub(crate) fn read(&mut self, shown: bool) {
        let mut new = Vec::new();
        if self.reader.read_to_end(&mut new).is_ok() && !new.is_empty() {
            if shown {
                let mut out = std::io::stdout();
                let _ = out.write_all(&new).and_then(|()| out.flush());
            }
            self.output.push_str(&String::from_utf8_lossy(&new));
        }
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().doing("wait for a child process")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        reaper::end_all(&self.marker);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Job {
        let paths = Paths::find().expect("paths");
        Job::new(&paths, &format!("unit {}", script.len()), "sh").args(["-c", script])
    }

    #[test]
    fn keeps_the_output_and_the_code() {
        let ended = shell("echo one; echo two >&2; exit 3")
            .run()
            .expect("it runs");
        assert_eq!(ended.output, "one\ntwo\n");
        assert_eq!(ended.how(), "failed with code 3");
        assert!(ended.success().is_err());
    }

    #[test]
    fn ends_what_runs_too_long_with_all_it_started() {
        let job = shell("sleep 61 & setsid sleep 62 & echo started; wait").limit_s(1);
        let ended = job.run().expect("it runs");
        assert_eq!(ended.output, "started\n");
        assert!(ended.how().starts_with("ran out of time"));
        assert!(ended.took < Duration::from_secs(10));
    }
}
