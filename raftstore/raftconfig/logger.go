package raftconfig

import (
	"errors"
	"net"

	"github.com/hashicorp/go-hclog"
)

// warnings passes on warnings and errors only, whatever the level of its logger: raft logs much at level info. It
// implements the methods that raft calls.
type warnings struct{ hclog.Logger }

// WarningsOnly returns a logger for raft that passes on warnings and errors only, nothing if l is nil.
func WarningsOnly(l hclog.Logger) hclog.Logger {
	if l == nil {
		return hclog.NewNullLogger()
	}
	return warnings{l}
}

// Error passes on an error, except that a connection was used that this process has closed itself.
func (w warnings) Error(msg string, args ...any) {
	for _, arg := range args {
		if err, ok := arg.(error); ok && isOwnClose(err) {
			w.Logger.Debug(msg, args...)
			return
		}
	}
	w.Logger.Error(msg, args...)
}

// isOwnClose reports whether an error says that this process has closed the connection. The errors of the codec of
// raft's calls have a cause, and no method Unwrap.
func isOwnClose(err error) bool {
	var codec interface {
		error
		Cause() error
	}
	return errors.Is(err, net.ErrClosed) || errors.As(err, &codec) && errors.Is(codec.Cause(), net.ErrClosed)
}

func (warnings) Trace(string, ...any)            {}
func (warnings) Debug(string, ...any)            {}
func (warnings) Info(string, ...any)             {}
func (w warnings) With(args ...any) hclog.Logger { return warnings{w.Logger.With(args...)} }

// quietAtEnd passes on warnings and errors at level debug while raft is being ended. It implements the methods that
// [warnings] calls.
type quietAtEnd struct {
	hclog.Logger
	ending func() bool
}

// QuietAtEnd returns a logger for raft that passes on warnings and errors at level debug while ending returns true.
// When raft ends, its calls in progress fail in many ways, and it logs each as an error.
func QuietAtEnd(l hclog.Logger, ending func() bool) hclog.Logger { return quietAtEnd{l, ending} }

func (q quietAtEnd) Error(msg string, args ...any) {
	if q.ending() {
		q.Logger.Debug(msg, args...)
		return
	}
	q.Logger.Error(msg, args...)
}

func (q quietAtEnd) Warn(msg string, args ...any) {
	if q.ending() {
		q.Logger.Debug(msg, args...)
		return
	}
	q.Logger.Warn(msg, args...)
}

func (q quietAtEnd) With(args ...any) hclog.Logger {
	return quietAtEnd{q.Logger.With(args...), q.ending}
}
