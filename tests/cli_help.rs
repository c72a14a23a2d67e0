//! What `cluster-quic` says of itself: help, exit codes, completions.
#![cfg(feature = "cli")]

mod cli;

use cli::{Dir, command, run};
use cluster_quic::DevCa;

#[test]
fn every_command_tells_its_exit_codes_and_none_minds_a_closed_pipe() {
    let dir = Dir::new();
    let ca = DevCa::new("cli").unwrap();
    ca.write_to(dir.path(), "node", &["a.test"]).unwrap();
    for command in [
        &["--help"][..],
        &["certs", "--help"],
        &["certs", "init", "--help"],
        &["certs", "issue", "--help"],
        &["certs", "show", "--help"],
        &["certs", "check", "--help"],
        &["ping", "--help"],
        &["node", "--help"],
        &["load", "--help"],
        &["completions", "--help"],
    ] {
        run(dir.path(), command).expect(0).says(&["Exit codes: 0", "Examples: cluster-quic "]);
    }
    run(dir.path(), &["certs", "nonsense"]).expect(2).says(&["unrecognized subcommand"]);
    for args in [
        &["completions", "bash"][..],
        &["certs", "show", "node.pem"],
        &["certs", "show", "--json", "node.pem"],
        &["certs", "check", "--cert", "node.pem", "--key", "node-key.pem", "--ca", "ca.pem"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(dir.path(), args).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn completions_are_of_every_command() {
    let dir = Dir::new();
    for (shell, how) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef cluster-quic"),
        ("fish", "complete -c cluster-quic"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion:arg-completer[cluster-quic]"),
    ] {
        let script = completions(&dir, shell);
        // Some shells take the name of an option alone.
        let all = ["certs", "issue", "ping", "timeout", "node", "join", "load", "patience"];
        for word in all.iter().chain([&how]) {
            assert!(script.contains(word), "no {word} in that of {shell}:\n{script}");
        }
    }
    run(dir.path(), &["completions", "nonsense"]).expect(2).says(&["bash"]);
}

/// In the shell that the script is for, where there is one.
#[cfg(unix)]
#[test]
fn bash_completes_with_it() {
    let dir = Dir::new();
    dir.write("script", completions(&dir, "bash"));
    let complete = |words: &[&str]| {
        let program = "source ./script; line=($(complete -p cluster-quic))
            while [ \"${line[0]}\" != -F ]; do line=(\"${line[@]:1}\"); done
            COMP_WORDS=(cluster-quic \"$@\") COMP_CWORD=$#
            ${line[1]} cluster-quic \"${COMP_WORDS[$#]}\" \"${COMP_WORDS[$# - 1]}\"
            echo ${COMPREPLY[@]}";
        let mut bash = std::process::Command::new("bash");
        bash.args(["--norc", "-c", program, "bash"]).args(words).current_dir(dir.path());
        let output = bash.output()?;
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        Ok::<_, std::io::Error>(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    match complete(&["pi"]) {
        Err(error) => println!("no bash on this machine: {error}"),
        Ok(completed) => {
            assert_eq!(completed, "ping");
            assert_eq!(complete(&["certs", "is"]).unwrap(), "issue");
            assert_eq!(complete(&["node", "--down"]).unwrap(), "--down-after");
            assert_eq!(complete(&["completions", "ba"]).unwrap(), "bash");
        }
    }
}

fn completions(dir: &Dir, shell: &str) -> String {
    let output = command(dir.path(), &["completions", shell]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
