package tune

import (
	"io"
	"log"

	"github.com/hashicorp/go-hclog"
)

// quiet passes on what is at least a warning, whatever level the logger under it has: raft tells much at level info.
type quiet struct{ hclog.Logger }

// Quiet makes a logger that passes on warnings and errors only. Nil gives one that passes on nothing.
func Quiet(l hclog.Logger) hclog.Logger {
	if l == nil {
		return hclog.NewNullLogger()
	}
	return quiet{l}
}

func (q quiet) Trace(string, ...any) {}
func (q quiet) Debug(string, ...any) {}
func (q quiet) Info(string, ...any)  {}
func (q quiet) IsTrace() bool        { return false }
func (q quiet) IsDebug() bool        { return false }
func (q quiet) IsInfo() bool         { return false }

func (q quiet) Log(level hclog.Level, msg string, args ...any) {
	if level >= hclog.Warn {
		q.Logger.Log(level, msg, args...)
	}
}

func (q quiet) With(args ...any) hclog.Logger       { return quiet{q.Logger.With(args...)} }
func (q quiet) Named(name string) hclog.Logger      { return quiet{q.Logger.Named(name)} }
func (q quiet) ResetNamed(name string) hclog.Logger { return quiet{q.Logger.ResetNamed(name)} }

func (q quiet) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(io.Discard, "", 0)
}
func (q quiet) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return io.Discard }
