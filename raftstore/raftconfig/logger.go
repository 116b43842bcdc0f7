package raftconfig

import "github.com/hashicorp/go-hclog"

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

func (warnings) Trace(string, ...any)            {}
func (warnings) Debug(string, ...any)            {}
func (warnings) Info(string, ...any)             {}
func (w warnings) With(args ...any) hclog.Logger { return warnings{w.Logger.With(args...)} }
