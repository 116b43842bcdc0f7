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
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/wire"
)

// newStorageDir makes the data folder of a storage node that has the test chain.
func newStorageDir(t testing.TB, blocks int) string {
	t.Helper()
	dir := t.TempDir()
	node, err := storagenode.Open(storagenode.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for n, b := range testLog(blocks).Blocks {
		if _, err := node.Put(uint64(n), b.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// damage changes a text in a folder's segments to another of the same length.
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
	head := testLog(3).Blocks[2].Header.Hash().String()
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
	mustFail(t, err, "stopped after ")
	if out != "" {
		t.Errorf("stopped, and printed %q", out)
	}

	damage(t, dir, "record 2 of block 1", "record 2 of block l")
	out, _, err = run(t, nil, "verify", "--data", dir)
	mustFail(t, err, "the chain is not valid: the first bad block is 1: ")
	if strings.Contains(out, "valid") || !strings.HasPrefix(out, "block 1: ") ||
		!strings.HasSuffix(out, "\nbad: 1 block: 1\n") {
		t.Errorf("not valid, and printed %q", out)
	}
	out, _, err = run(t, nil, "verify", "--data", dir, "--json")
	mustFail(t, err, "the first bad block is 1")
	var v verified
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
		mustFail(t, err, test.want)
		if out != "" {
			t.Errorf("%q: printed %q", test.dir, out)
		}
	}
}

func TestVerifyText(t *testing.T) {
	found := audit.Summary{
		Findings: []wire.Finding{{Block: 2, What: chain.WrongFrame, Detail: "segments/0 at 47\x1b[2J"},
			{Block: 9, What: chain.WrongShort}},
		Bad:       []chain.Range{{From: 2, To: 3}, {From: 9, To: 12}},
		Unchecked: 12,
		Lost:      []chain.Range{{From: 4, To: 5}, {From: 6, To: 8}},
	}
	want := `block 2: its frame is damaged (frame): segments/0 at 47?[2J
block 9: the chain ends before it (short-chain)
bad: 4 blocks: 2, 9-11
blocks from 12 on could not be checked: bad blocks before them hide the tree
block 4 is lost; confirmed
blocks 6 to 7 are lost; confirmed
`
	if out := verifyText(&found, render.StandardWidth); out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if out := verifyText(&audit.Summary{}, render.StandardWidth); out != "" {
		t.Errorf("of a good chain: %q", out)
	}
}

// What was stopped could not be checked, which is another status than what does not fit.
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
		mustFail(t, err, "stopped after 0 blocks, good so far")
		if exitStatus(err) != exitUnchecked || strings.Contains(out, "valid") {
			t.Errorf("%q: status %d, printed %q", args, exitStatus(err), out)
		}
	}
	for _, args := range [][]string{
		{"export", "--data", dir, "--out", file + "2"},
		{"import", file, "--data", filepath.Join(t.TempDir(), "storage")},
	} {
		_, _, err := runContext(ctx, nil, args...)
		mustFail(t, err, "stopped: ")
		if exitStatus(err) != exitFailed {
			t.Errorf("%q: status %d", args, exitStatus(err))
		}
	}
}
