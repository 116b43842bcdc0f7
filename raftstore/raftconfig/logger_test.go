package raftconfig

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// TestOwnCloseIsNoError checks that raft's error about a connection that this process has closed is not logged, and
// that its other errors are.
func TestOwnCloseIsNoError(t *testing.T) {
	var out bytes.Buffer
	l := WarningsOnly(hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Info}))
	closed := &net.OpError{Op: "read", Net: "tcp", Err: net.ErrClosed}
	l.Error("failed to decode incoming command", "error", closed)
	if out.Len() > 0 {
		t.Errorf("logged %q", out.String())
	}
	l.Error("failed to make requestVote RPC", "error", codecError{closed})
	if out.Len() > 0 {
		t.Errorf("logged %q", out.String())
	}
	l.Error("failed to decode incoming command", "error", io.ErrUnexpectedEOF)
	if !strings.Contains(out.String(), "[ERROR] failed to decode incoming command") {
		t.Errorf("logged %q", out.String())
	}
}

// codecError is like the errors of the codec of raft's calls, which have no method Unwrap.
type codecError struct{ err error }

func (e codecError) Error() string { return "msgpack decode error [pos 0]: " + e.err.Error() }
func (e codecError) Cause() error  { return e.err }

// TestEndOfRaftIsNoError checks that raft's warnings and errors are logged at level debug once raft is being ended, and
// as they are before.
func TestEndOfRaftIsNoError(t *testing.T) {
	var out bytes.Buffer
	ending := false
	l := WarningsOnly(QuietAtEnd(hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Debug}),
		func() bool { return ending }))
	for _, c := range []struct {
		ending           bool
		failure, warning string
	}{{false, "[ERROR] failed to accept", "[WARN]  failed to contact"},
		{true, "[DEBUG] failed to accept", "[DEBUG] failed to contact"}} {
		ending = c.ending
		for _, l := range []hclog.Logger{l, l.With("peer", "m1")} {
			out.Reset()
			l.Error("failed to accept connection", "error", io.EOF)
			l.Warn("failed to contact", "server-id", "m2")
			if text := out.String(); !strings.Contains(text, c.failure) || !strings.Contains(text, c.warning) {
				t.Errorf("ending %v: logged %q", ending, text)
			}
		}
	}
}
