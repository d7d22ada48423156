//! `landfall-server`: reads the command line, serves until it is told to stop.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use landfall_server::Server;
use landfall_server::cli::{Args, Assign, Command, Flags, SECRET_VARIABLE};
use landfall_server::config::settings::Settings;
use tokio::net::TcpListener;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    let args = Args::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let done = match args.command {
        None => start(args.flags),
        Some(Command::CheckConfig(flags)) => check_config(*flags),
        Some(Command::Assignments(command)) => assign(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("landfall-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(flags: Flags) -> Result<(), Box<dyn Error>> {
    let settings = flags.settings()?;
    start_log(&settings)?;
    let listen = settings.address();
    let config = settings.into_config(secret())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::open(config).await?;
        let shutdown = shutdown_signal()?;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        let address = listener.local_addr()?;
        // Not println!, which panics where nobody reads.
        let mut stdout = std::io::stdout();
        let _ = writeln!(stdout, "listening on http://{address}").and_then(|()| stdout.flush());
        server.run(listener, shutdown).await?;
        Ok(())
    })
}

/// Prints what is in force once all of it has been checked; the database is not opened.
fn check_config(flags: Flags) -> Result<(), Box<dyn Error>> {
    let settings = flags.settings()?;
    let shown = settings.clone().completed().shown()?;
    let secret = secret();
    let from_variable = secret.is_some() && settings.tokens.secret_file.is_none();
    settings.into_config(secret)?;
    let mut stdout = std::io::stdout();
    if from_variable {
        writeln!(
            stdout,
            "# The secret of the tokens is in {SECRET_VARIABLE}."
        )?;
    }
    write!(stdout, "{shown}")?;
    Ok(())
}

fn assign(command: Assign) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(command.run())?;
    writeln!(std::io::stdout(), "{done}")?;
    Ok(())
}

fn secret() -> Option<String> {
    std::env::var(SECRET_VARIABLE).ok()
}

/// To standard error: standard output is for the address.
fn start_log(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let filter: Targets = settings.log.as_deref().unwrap_or("info").parse()?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    if settings.log_json.unwrap_or_default() {
        registry.with(lines.json()).init();
    } else {
        let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
        registry.with(lines.with_ansi(colours)).init();
    }
    Ok(())
}

/// Ends at the first SIGTERM or SIGINT. The handlers are in place when this returns.
#[cfg(unix)]
fn shutdown_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ends at the first Ctrl-C.
#[cfg(not(unix))]
fn shutdown_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
