package verify

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/signedlog"
	"github.com/chainstore/chainstore/wire"
)

// continued makes the log go on under another name and key, after it was closed at a tree. statement may change what
// the server shows; nil shows the one that is due.
func (l *testLog) continued(size uint64, root chain.Hash, statement func(due string, signer note.Signer) string) {
	l.t.Helper()
	closed := wire.Closing{Origin: l.Origin, Size: size, Root: root, Reason: "key stolen"}
	l.mu.Lock()
	l.Origin = "chainstore/second"
	l.Signer, l.VKey = signedlog.Key(l.Origin, 2)
	signer := l.Signer
	l.mu.Unlock()
	signed, err := note.Sign(&note.Note{Text: closed.Text()}, signer)
	if err != nil {
		l.t.Fatal(err)
	}
	if statement != nil {
		signed = []byte(statement(closed.Text(), signer))
	}
	l.answers(func(w http.ResponseWriter, path string) bool {
		if path != "v1/log" {
			return false
		}
		l.serveJSON(w, wire.Log{Origin: l.Origin, Closed: []wire.ClosedLog{
			{Origin: closed.Origin, Size: size, Root: root, Reason: closed.Reason, Statement: string(signed)},
		}})
		return true
	})
}

func signedBy(t *testing.T, text string, signers ...note.Signer) string {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

// TestClosedLog follows a log that was closed and goes on under another name, with the state of a run before. Only the
// new key is given.
func TestClosedLog(t *testing.T) {
	l := newTestLog(t, 100, 100, 100)
	_, state, err := l.audit(l.serve(), nil)
	if err != nil {
		t.Fatal(err)
	}
	size, root := state.Checkpoint.Size, state.Checkpoint.Root
	l.continued(size, root, nil)
	l.grow("more", 50)
	report, next, err := l.audit(l.serve(), state)
	if err != nil || !report.Good() || next == nil || next.Checkpoint.Origin != "chainstore/second" ||
		!strings.Contains(strings.Join(report.Remarks, " "), "key stolen") {
		t.Fatalf("%+v, %v", report, err)
	}
	if report.New != 51 {
		t.Errorf("%d leaves were verified, want those of the new block", report.New)
	}
	l.grow("again", 50)
	if report, _, err := l.audit(l.serve(), next); err != nil || !report.Good() ||
		strings.Contains(strings.Join(report.Remarks, " "), "was closed") {
		t.Errorf("the run after: %+v, %v", report, err)
	}
}

// TestKeysOfTwoLogs refuses a run that would accept the key of a closed log beside the new one.
func TestKeysOfTwoLogs(t *testing.T) {
	l := newTestLog(t, 10)
	_, vkey := signedlog.Key("chainstore/second", 2)
	trust, err := NewTrust([]string{l.VKey, vkey}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.audit(l.serve(), nil, func(o *Options) { o.Trust = trust }); !errors.Is(err, ErrKey) {
		t.Errorf("with keys of two logs: %v", err)
	}
}

// TestClosedLogForged shows statements that do not prove that a log continues another. The state of the run before is
// kept.
func TestClosedLogForged(t *testing.T) {
	thief, _ := signedlog.Key("chainstore/test", 1) // the stolen key
	other, _ := signedlog.Key("chainstore/second", 3)
	as := func(signers ...note.Signer) func(string, note.Signer) string {
		return func(due string, _ note.Signer) string { return signedBy(t, due, signers...) }
	}
	changed := func(from, to string) func(string, note.Signer) string {
		return func(due string, s note.Signer) string { return signedBy(t, strings.Replace(due, from, to, 1), s) }
	}
	for what, c := range map[string]struct {
		statement func(due string, signer note.Signer) string
		root      chain.Hash // of the statement; zero for the right one
		code      string
	}{
		"none":             {statement: func(string, note.Signer) string { return "" }, code: CodeOrigin},
		"by the thief":     {statement: as(thief), code: CodeOrigin},
		"by another key":   {statement: as(other), code: CodeOrigin},
		"about another":    {statement: changed("/test", "/else"), code: CodeOrigin},
		"another version":  {statement: changed("closing/v1", "closing/v2"), code: CodeOrigin},
		"of a future tree": {statement: changed("\n303\n", "\n999\n"), code: CodeOrigin},
		"of another tree":  {root: chain.Hash{9}, code: CodeFork},
	} {
		t.Run(what, func(t *testing.T) {
			l := newTestLog(t, 100, 100, 100)
			_, state, err := l.audit(l.serve(), nil)
			if err != nil {
				t.Fatal(err)
			}
			root := state.Checkpoint.Root
			if !c.root.IsZero() {
				root = c.root
			}
			l.continued(state.Checkpoint.Size, root, c.statement)
			report, next, err := l.audit(l.serve(), state)
			if err != nil || codes(report.Findings) != c.code || next != nil {
				t.Errorf("%v, %v, state %v", report.Findings, err, next)
			}
		})
	}
}

// TestClosedBeforeTheState has an auditor who took a checkpoint that the thief of the key signed: another tree, of more
// leaves than the log was closed at. The finding says so.
func TestClosedBeforeTheState(t *testing.T) {
	l := newTestLog(t, 100, 100)
	forged := l.fork(1, "forged", 100, 100)
	_, state, err := forged.audit(forged.serve(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, trusted, err := l.audit(l.serve(), nil)
	if err != nil {
		t.Fatal(err)
	}
	l.continued(trusted.Checkpoint.Size, trusted.Checkpoint.Root, nil)
	l.grow("more", 200)
	report, next, err := l.audit(l.serve(), state)
	if err != nil || codes(report.Findings) != CodeFork || next != nil ||
		!strings.Contains(report.Findings[0].Text, "closed at 202 leaves") || len(report.Findings[0].Evidence) != 2 {
		t.Errorf("%+v, %v", report.Findings, err)
	}
}
