package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// keyFileOf writes a file of at-rest keys.
func keyFileOf(t *testing.T, path string, keys ...string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(keys, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAtRestOfAMaster counts the files of a master's folder in clear, encrypts it, decrypts it, and reads an encrypted
// one with the commands that take its keys.
func TestAtRestOfAMaster(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "master")
	s, err := raftstore.Open(raftstore.Config{
		Dir: dir, Bind: "127.0.0.1:0", Secret: func() []string { return []string{"the secret of this test"} },
	})
	if err == nil {
		err = errors.Join(s.Found("g", []wire.Member{s.Member()}), s.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	keys := keyFileOf(t, filepath.Join(t.TempDir(), "keys"),
		"7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed")
	must := func(want string, args ...string) {
		t.Helper()
		out, errs, err := run(t, nil, args...)
		if err != nil || !strings.Contains(out, want) {
			t.Fatalf("%q: %v: %s%s", args, err, out, errs)
		}
	}
	refused := func(want string, args ...string) {
		t.Helper()
		if out, _, err := run(t, nil, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v, want %q", args, out, err, want)
		}
	}
	must(`{"keys":{},"plain":1,`, "at-rest", "status", "--data", dir, "--json")
	must("the key is", "at-rest", "rewrite", "--data", dir, "--at-rest-keys", keys)
	must(`"plain":0,`, "at-rest", "status", "--data", dir, "--json")
	must("in clear              0 files", "at-rest", "status", "--data", dir)
	backup := []string{"log", "backup", "--data", dir, "--cluster-token-file",
		keyFileOf(t, filepath.Join(t.TempDir(), "token"), strings.Repeat("0123456789abcdef", 4))}
	refused("--at-rest-keys", backup...)
	refused("the log has no key yet", append(backup, "--at-rest-keys", keys)...)
	refused("at-rest decrypt", "master", "log-to-database", "--data", dir)
	refused("--at-rest-keys", "at-rest", "decrypt", "--data", dir)
	refused("not the data folder", "at-rest", "decrypt", "--data", t.TempDir(), "--at-rest-keys", keys)
	must("in clear", "at-rest", "decrypt", "--data", dir, "--at-rest-keys", keys)
	must(`{"keys":{},"plain":1,`, "at-rest", "status", "--data", dir, "--json")
	must("raft.db", "master", "log-to-database", "--data", dir)
	refused("raft.db", "at-rest", "rewrite", "--data", dir, "--at-rest-keys", keys)
}

// TestAtRest moves a chain through an encrypted folder: import, verify, status, rewrite under another key, and export.
func TestAtRest(t *testing.T) {
	const first, second = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
		"d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	node, err := storagenode.Open(storagenode.Config{Dir: plain})
	if err != nil {
		t.Fatal(err)
	}
	record := chain.Record{Project: 1, Time: 1, Payload: []byte("a payload that must not be on the disk")}
	leaf := record.Leaf().Hash()
	h := chain.Header{Version: chain.Version, Count: 1, Root: chain.Tree{}.Append(leaf).Root(), Time: 1, Difficulty: 1}
	h.Nonce, _ = chain.Solve(h.Inner(), h.Difficulty, 0, 1<<20)
	body := record.AppendTo(nil)
	block, err := chain.NewBlock(h, []uint32{uint32(len(body))}, body)
	if err == nil {
		_, err = node.Put(t.Context(), 0, block.Bytes())
	}
	if err == nil {
		err = node.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	must := func(args ...string) string {
		t.Helper()
		out, errs, err := run(t, nil, args...)
		if err != nil {
			t.Fatalf("%q: %v: %s%s", args, err, out, errs)
		}
		return out
	}
	refused := func(want string, args ...string) {
		t.Helper()
		if out, _, err := run(t, nil, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v, want %q", args, out, err, want)
		}
	}
	keys := keyFileOf(t, filepath.Join(dir, "keys"), first)
	sealed, file := filepath.Join(dir, "sealed"), filepath.Join(dir, "export")
	// An export needs the group of a node that has registered.
	identity := `{"version":1,"id":"s","master_token":"m","access_token":"a","group":"g"}`
	if err := os.WriteFile(filepath.Join(plain, "identity.json"), []byte(identity), 0o600); err != nil {
		t.Fatal(err)
	}
	must("export", "--data", plain, "--out", file)
	must("import", file, "--data", sealed, "--at-rest-keys", keys)
	if err := filepath.WalkDir(sealed, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), string(record.Payload)) {
			t.Errorf("%s has the payload", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	refused("at-rest", "verify", "--data", sealed)
	refused("at-rest", "export", "--data", sealed, "--out", file+"2")
	if out := must("verify", "--data", sealed, "--at-rest-keys", keys); !strings.Contains(out, "chain valid") {
		t.Errorf("verify: %s", out)
	}
	status := func() (s struct {
		Keys              map[string]int
		Plain, Quarantine int
	}) {
		t.Helper()
		if err := json.Unmarshal([]byte(must("at-rest", "status", "--data", sealed, "--json")), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := status() // with or without the index of records, which is written behind
	if len(before.Keys) != 1 || before.Plain != 0 {
		t.Errorf("%+v", before)
	}
	other := func(want string, args ...string) {
		t.Helper()
		out := must(append([]string{"at-rest", "status", "--data", sealed, "--json"}, args...)...)
		_, at, found := strings.Cut(out, `"other":`)
		if (want == "") == found || !strings.HasPrefix(strings.TrimSpace(at), want) {
			t.Errorf("%s, want other %q", out, want)
		}
	}
	other("")
	other("0", "--at-rest-keys", keys)
	keyFileOf(t, keys, second, first)
	for _, files := range before.Keys {
		other(strconv.Itoa(files), "--at-rest-keys", keys)
	}
	out := must("at-rest", "rewrite", "--data", sealed, "--at-rest-keys", keys)
	if !strings.Contains(out, "the key is") {
		t.Errorf("rewrite: %s", out)
	}
	keyFileOf(t, keys, second)
	after := status()
	for id := range before.Keys {
		if after.Keys[id] > 0 || len(after.Keys) != 1 {
			t.Errorf("%+v, then %+v", before, after)
		}
	}
	must("export", "--data", sealed, "--out", file+"2", "--at-rest-keys", keys)
	if out := must("verify", "--file", file+"2"); !strings.Contains(out, "1") {
		t.Errorf("verify: %s", out)
	}
	if err := os.Chmod(keys, 0o644); err != nil {
		t.Fatal(err)
	}
	refused("chmod 600", "verify", "--data", sealed, "--at-rest-keys", keys)
	refused("chmod 600", "import", file, "--data", filepath.Join(dir, "other"), "--at-rest-keys", keys)
	refused("--data", "at-rest", "status")
	refused("--at-rest-keys", "at-rest", "rewrite", "--data", sealed)
	refused("not the data folder", "at-rest", "status", "--data", filepath.Join(dir, "none"))
	refused("only a folder has keys", "verify", "--file", file, "--at-rest-keys", keys)
}
