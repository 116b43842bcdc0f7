package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// newStorageDir creates the data folder of a storage node that has the test chain.
func newStorageDir(t testing.TB, blocks int) string {
	t.Helper()
	dir := t.TempDir()
	node, err := storagenode.Open(storagenode.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for n, b := range clitest.NewLog(blocks).Blocks {
		if _, err := node.Put(t.Context(), uint64(n), b.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// damage replaces a text in a folder's segments by another of the same length.
func damage(t *testing.T, dir, text, to string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "segments", "*"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %q, %v", segments, err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil || bytes.Count(data, []byte(text)) != 1 {
		t.Fatalf("%q is not there once: %v", text, err)
	}
	if err := os.WriteFile(segments[0], bytes.Replace(data, []byte(text), []byte(to), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestVerify(t *testing.T) {
	dir := newStorageDir(t, 3)
	head := clitest.NewLog(3).Blocks[2].Header.Hash().String()
	out, errs, err := run(t, nil, "verify", "--data", dir)
	if want := "height   3\nrecords  12\nhead     " + head + "\nchain valid\n"; err != nil || out != want ||
		errs != "" {
		t.Errorf("got %q, %q, %v; want %q", out, errs, err, want)
	}
	out, _, err = run(t, nil, "verify", "--data", dir, "--json")
	if want := `{"valid":true,"height":3,"records":12,"size":15,"head":"` + head +
		`","torn":0,"findings":[],"bad":[],"lost":[]}` + "\n"; err != nil || out != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out, _, err = runContext(ctx, nil, "verify", "--data", dir)
	clitest.MustFail(t, err, "stopped after ")
	if out != "" {
		t.Errorf("stopped, and printed %q", out)
	}

	damage(t, dir, "record 2 of block 1", "record 2 of block l")
	out, _, err = run(t, nil, "verify", "--data", dir)
	clitest.MustFail(t, err, "the chain is not valid: the first bad block is 1: ")
	if strings.Contains(out, "valid") || !strings.HasPrefix(out, "block 1: ") ||
		!strings.HasSuffix(out, "\nbad: 1 block: 1\n") {
		t.Errorf("not valid, and printed %q", out)
	}
	out, _, err = run(t, nil, "verify", "--data", dir, "--json")
	clitest.MustFail(t, err, "the first bad block is 1")
	var v struct {
		Valid    bool
		Height   uint64
		Error    string
		Bad      *uint64 `json:"bad_block"`
		Findings []wire.Finding
		Ranges   []chain.Range `json:"bad"`
	}
	if json.Unmarshal([]byte(out), &v) != nil || v.Valid || v.Height != 1 || v.Bad == nil || *v.Bad != 1 ||
		len(v.Findings) != 1 || v.Findings[0].Block != 1 || len(v.Ranges) != 1 || v.Ranges[0].From != 1 ||
		!strings.Contains(err.Error(), v.Error) {
		t.Errorf("--json: %q", out)
	}
}

func TestVerifyRefused(t *testing.T) {
	for _, test := range []struct{ dir, want string }{
		{"", "name one thing to check: the data folder of a storage node with --data"},
		{t.TempDir(), "is not the data folder of a storage node"},
		{filepath.Join(t.TempDir(), "nowhere"), "is not the data folder of a storage node"},
	} {
		out, _, err := run(t, nil, "verify", "--data", test.dir)
		clitest.MustFail(t, err, test.want)
		if out != "" {
			t.Errorf("%q: printed %q", test.dir, out)
		}
	}
}

// TestVerifyStopped checks that an interrupted verification has a different exit status than a failed one.
func TestVerifyStopped(t *testing.T) {
	l := newSignedLog(t, 3)
	variables := l.layOut(t.TempDir())
	file := filepath.Join(t.TempDir(), "chain.export")
	dir := newStorageDir(t, 3)
	if _, _, err := run(t, nil, "export", "--data", dir, "--out", file); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range [][]string{
		{"verify", "--url", variables["LOG_URL"], "--key", variables["LOG_KEY"]},
		{"verify", "--file", file},
		{"verify", "--data", dir},
	} {
		out, _, err := runContext(ctx, nil, args...)
		clitest.MustFail(t, err, "stopped after 0 blocks, good so far")
		if cli.ExitStatus(err) != cli.ExitUnchecked || strings.Contains(out, "valid") {
			t.Errorf("%q: status %d, printed %q", args, cli.ExitStatus(err), out)
		}
	}
	for _, args := range [][]string{
		{"export", "--data", dir, "--out", file + "2"},
		{"import", file, "--data", filepath.Join(t.TempDir(), "storage")},
	} {
		_, _, err := runContext(ctx, nil, args...)
		clitest.MustFail(t, err, "stopped: ")
		if cli.ExitStatus(err) != cli.ExitFailed {
			t.Errorf("%q: status %d", args, cli.ExitStatus(err))
		}
	}
}
