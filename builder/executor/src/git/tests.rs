use super::*;

/// A repository with two commits on `main`, a tag at the first one, and the branch `other`.
struct Repository {
    dir: tempfile::TempDir,
    first: String,
    second: String,
}

fn env() -> BTreeMap<String, String> {
    let pairs = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("GIT_AUTHOR_NAME", "a"),
        ("GIT_AUTHOR_EMAIL", "a@example.com"),
        ("GIT_COMMITTER_NAME", "a"),
        ("GIT_COMMITTER_EMAIL", "a@example.com"),
    ];
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

impl Repository {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command.env_clear().envs(env()).arg("-C").arg(dir.path());
            let output = command.args(arguments).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        git(&["init", "--quiet", "--initial-branch=main"]);
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "one").unwrap();
        fs::write(dir.path().join("run.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(dir.path().join("run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "first"]);
        git(&["tag", "-a", "v1", "-m", "v1"]);
        let first = git(&["rev-parse", "HEAD"]);
        fs::write(dir.path().join("sub/file"), "two").unwrap();
        git(&["commit", "--quiet", "-a", "-m", "second"]);
        let second = git(&["rev-parse", "HEAD"]);
        git(&["branch", "other", &first]);
        Self { dir, first, second }
    }

    fn address(&self, fragment: &str) -> Address {
        let mut address = Address::parse(&format!("git://host/r.git{fragment}"))
            .unwrap()
            .unwrap();
        address.url = format!("file://{}", self.dir.path().display());
        address
    }

    fn fetch(
        &self,
        fragment: &str,
        extent: &Extent,
    ) -> Result<(String, tempfile::TempDir), GitError> {
        let into = tempfile::tempdir().unwrap();
        let commit = Git::new(&env()).fetch(&self.address(fragment), extent, into.path())?;
        Ok((commit, into))
    }
}

fn content(dir: &tempfile::TempDir, name: &str) -> String {
    fs::read_to_string(dir.path().join(name)).unwrap()
}

#[test]
fn a_branch_a_tag_and_a_commit_are_checked_out() {
    let repository = Repository::new();
    let shallow = Extent {
        depth: Some(1),
        ..Extent::default()
    };
    let short = format!("#{}", &repository.first[..9]);
    let whole = format!("#{}", repository.first);
    for (fragment, commit, text) in [
        ("", &repository.second, "two"),
        ("#main", &repository.second, "two"),
        ("#other", &repository.first, "one"),
        ("#refs/heads/other", &repository.first, "one"),
        ("#v1", &repository.first, "one"),
        (whole.as_str(), &repository.first, "one"),
        (short.as_str(), &repository.first, "one"),
    ] {
        let (found, dir) = repository.fetch(fragment, &shallow).unwrap();
        assert_eq!(&found, commit, "{fragment}");
        assert_eq!(content(&dir, "sub/file"), text, "{fragment}");
        assert!(!dir.path().join(".git").exists(), "{fragment}");
    }
}

#[test]
fn kanikos_second_fragment_goes_back_on_a_branch() {
    let repository = Repository::new();
    let mut address = repository.address("#refs/heads/main");
    address.commit = Some(repository.first.clone());
    let into = tempfile::tempdir().unwrap();
    let found = Git::new(&env()).fetch(&address, &Extent::default(), into.path());
    assert_eq!(found.unwrap(), repository.first);
}

#[test]
fn modes_do_not_depend_on_who_checks_out_and_a_directory_can_stand_for_all() {
    let repository = Repository::new();
    let extent = Extent::default();
    let (_, dir) = repository.fetch("#main", &extent).unwrap();
    let mode = |name: &str| {
        fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(
        (mode("sub"), mode("sub/file"), mode("run.sh")),
        (0o755, 0o644, 0o755)
    );
    let (_, dir) = repository.fetch("#main:sub", &extent).unwrap();
    assert_eq!(content(&dir, "file"), "two");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let kept = Extent {
        history: History::Kept,
        ..extent
    };
    let (_, dir) = repository.fetch("#main:sub", &kept).unwrap();
    assert!(dir.path().join(".git/HEAD").exists() && dir.path().join("file").exists());
}

#[test]
fn what_is_not_there_is_named() {
    let repository = Repository::new();
    let extent = Extent::default();
    let error = repository
        .fetch("#nothing", &extent)
        .unwrap_err()
        .to_string();
    assert!(error.contains("nothing"), "{error}");
    let error = repository.fetch("#main:../..", &extent).unwrap_err();
    assert!(matches!(error, GitError::Subdirectory { .. }), "{error}");
    let mut address = repository.address("");
    address.checksum = Some("0000000".to_owned());
    let into = tempfile::tempdir().unwrap();
    let error = Git::new(&env())
        .fetch(&address, &extent, into.path())
        .unwrap_err();
    assert!(matches!(error, GitError::Checksum { .. }), "{error}");
    let no_path = BTreeMap::from([("PATH".to_owned(), "/nowhere".to_owned())]);
    let error = Git::new(&no_path)
        .fetch(&repository.address(""), &extent, into.path())
        .unwrap_err();
    assert!(matches!(error, GitError::Missing { .. }), "{error}");
}
