package render

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/chainstore/chainstore/wire"
)

// drawEvery is the shortest time between two drawings of a progress bar.
const drawEvery = 100 * time.Millisecond

// newBar makes a bar on w. It shows nothing unless w is a terminal, and is removed when it is done. total is -1 if
// unknown.
func newBar(w io.Writer, total int64, options ...progressbar.Option) *progressbar.ProgressBar {
	return progressbar.NewOptions64(total, append([]progressbar.Option{
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetVisibility(IsTerminal(w)),
		progressbar.OptionThrottle(drawEvery),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionFullWidth(),
		progressbar.OptionShowCount(),
		progressbar.OptionShowTotalBytes(total >= 0),
		progressbar.OptionSetPredictTime(total >= 0),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionSetTheme(progressbar.ThemeASCII),
		progressbar.OptionSetSpinnerChangeInterval(0), // otherwise a goroutine that outlives the bar draws it
	}, options...)...)
}

// ByteBar shows how many bytes are done, at what rate, and the time left.
type ByteBar struct {
	w    io.Writer
	what string
	Unit string                   // unit of the counts, "" for bytes
	bar  *progressbar.ProgressBar // nil before the first call of Set
}

// NewByteBar makes a bar on w with a description.
func NewByteBar(w io.Writer, what string) *ByteBar { return &ByteBar{w: w, what: what} }

// Set shows the progress. It does nothing if total is 0.
func (b *ByteBar) Set(done, total int64) {
	if total <= 0 {
		return
	}
	if b.bar == nil {
		counts := []progressbar.Option{progressbar.OptionShowBytes(true)}
		if b.Unit != "" {
			counts = []progressbar.Option{progressbar.OptionSetItsString(b.Unit), progressbar.OptionShowIts()}
		}
		b.bar = newBar(b.w, total, append(counts, progressbar.OptionSetDescription(b.what))...)
	}
	if total != b.bar.GetMax64() {
		b.bar.ChangeMax64(total)
	}
	_ = b.bar.Set64(done) // drawing errors do not matter
}

// Done removes the bar.
func (b *ByteBar) Done() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}

// RecordBar shows the number of acknowledged records and their rate. If the size of the input is known, it also shows
// the share that is done and the time left.
type RecordBar struct {
	bar     *progressbar.ProgressBar
	start   time.Time
	drawn   time.Time
	sized   bool
	records int
}

// NewRecordBar makes a bar for an input of size bytes, -1 if unknown.
func NewRecordBar(w io.Writer, size int64) *RecordBar {
	b := &RecordBar{start: time.Now(), sized: size > 0}
	if b.sized {
		b.bar = newBar(w, size, progressbar.OptionShowBytes(true))
	} else {
		b.bar = newBar(w, -1, progressbar.OptionSetItsString("records"), progressbar.OptionShowIts(),
			progressbar.OptionSetDescription("appended"))
	}
	return b
}

// Add counts one acknowledged record that took that many bytes of the input.
func (b *RecordBar) Add(bytes int64) {
	b.records++
	if !b.sized {
		_ = b.bar.Add(1)
		return
	}
	if now := time.Now(); now.Sub(b.drawn) >= drawEvery {
		b.drawn = now
		b.bar.Describe(fmt.Sprintf("%d records, %s", b.records, Rate(b.records, now.Sub(b.start))))
	}
	_ = b.bar.Add64(bytes)
}

// Done removes the bar.
func (b *RecordBar) Done() { _ = b.bar.Clear() }

// Rate formats a number of records per second.
func Rate(records int, took time.Duration) string {
	if took <= 0 {
		return "0 records/s"
	}
	return fmt.Sprintf("%.0f records/s", float64(records)/took.Seconds())
}

// TaskBar shows the progress of a check or a repair.
type TaskBar struct {
	w    io.Writer
	kind string
	bar  *ByteBar // nil if no task is running
}

// NewTaskBar makes a bar on w.
func NewTaskBar(w io.Writer) *TaskBar { return &TaskBar{w: w} }

// Show draws the progress of the task of a node.
func (b *TaskBar) Show(n *wire.NodeIntegrity) {
	t := n.Task
	if t == nil || t.Kind != wire.TaskCheck && t.Kind != wire.TaskReceive {
		b.Done()
		return
	}
	if b.bar == nil || b.kind != t.Kind {
		b.Done()
		what := "check "
		if t.Kind == wire.TaskReceive {
			what = "repair "
		}
		b.kind, b.bar = t.Kind, NewByteBar(b.w, what+ID(Plain(n.ID)))
		if t.Total == 0 {
			b.bar.Unit = "blocks"
		}
	}
	if b.bar.Unit != "" {
		b.bar.Set(int64(t.Blocks), int64(TaskBlocks(n)))
	} else {
		b.bar.Set(int64(t.Bytes), int64(t.Total))
	}
}

// Done removes the bar.
func (b *TaskBar) Done() {
	if b.bar != nil {
		b.bar.Done()
		b.bar = nil
	}
}
