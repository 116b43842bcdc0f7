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

// Bar shows how much of a task is done, at what rate, and the time left.
type Bar struct {
	w          io.Writer
	what, unit string                   // unit of the counts, "" for bytes
	bar        *progressbar.ProgressBar // nil before the first call of Set
}

// NewBar makes a bar on w with a description and the unit of its counts, "" for bytes.
func NewBar(w io.Writer, what, unit string) *Bar { return &Bar{w: w, what: what, unit: unit} }

// Set shows the progress. It does nothing if total is 0.
func (b *Bar) Set(done, total int64) {
	if total <= 0 {
		return
	}
	if b.bar == nil {
		counts := []progressbar.Option{progressbar.OptionShowBytes(true)}
		if b.unit != "" {
			counts = []progressbar.Option{progressbar.OptionSetItsString(b.unit), progressbar.OptionShowIts()}
		}
		b.bar = newBar(b.w, total, append(counts, progressbar.OptionSetDescription(b.what))...)
	}
	if total != b.bar.GetMax64() {
		b.bar.ChangeMax64(total)
	}
	_ = b.bar.Set64(done) // drawing errors do not matter
}

// SetTask shows the progress of a node's check or repair, and removes the bar while none is running.
func (b *Bar) SetTask(n *wire.NodeIntegrity) {
	t := n.Task
	if t == nil || t.Kind != wire.TaskCheck && t.Kind != wire.TaskReceive {
		b.Done()
		return
	}
	next := Bar{w: b.w, what: "check " + ID(Plain(n.ID))}
	if t.Kind == wire.TaskReceive {
		next.what = "repair " + ID(Plain(n.ID))
	}
	done, total := t.Bytes, t.Total
	if total == 0 {
		next.unit, done, total = "blocks", t.Blocks, TaskBlocks(n)
	}
	if next.what != b.what || next.unit != b.unit {
		b.Done()
		*b = next
	}
	b.Set(int64(done), int64(total))
}

// Done removes the bar.
func (b *Bar) Done() {
	if b.bar != nil {
		_ = b.bar.Clear()
		b.bar = nil
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
