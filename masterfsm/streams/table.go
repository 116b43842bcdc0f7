package streams

import (
	"container/list"
	"fmt"
)

// The bounds of a [Table].
const (
	// Window is how many records of a stream, the newest, have their positions in the table.
	Window = 1024
	// PerProject is how many streams of a project are remembered.
	PerProject = 64
	// MaxBytes bounds the memory of all streams, as [Table.Bytes] counts it.
	MaxBytes = 16 << 20
)

// The memory of a stream without its runs, and of a run, in bytes.
const (
	streamBytes = 320
	runBytes    = 16
)

// Name identifies a stream among those of all projects.
type Name [16]byte

// Run is a range of consecutive positions: Count records from (Block, Offset) on.
type Run struct {
	Block         uint64
	Offset, Count uint32
}

// follows reports whether a run begins where r ends, in the same block.
func (r Run) follows(next Run) bool {
	return r.Block == next.Block && uint64(r.Offset)+uint64(r.Count) == uint64(next.Offset)
}

// Image is one stream, as it was when the image was taken.
type Image struct {
	Name    Name
	Project uint32
	Last    uint64 // the number of its newest record
	// The positions of its newest records, the newest last. Skip records at the beginning of the first run are no
	// longer in the window.
	Runs []Run
	Tail Run // behind Runs; its Count is 0 only if there are no runs
	Skip uint32
}

// Each calls f for each run of the image, in order, without the records that are no longer in the window.
func (m *Image) Each(f func(Run)) {
	skip := m.Skip
	each := func(r Run) {
		if r.Count > skip {
			f(Run{Block: r.Block, Offset: r.Offset + skip, Count: r.Count - skip})
		}
		skip = 0
	}
	for _, r := range m.Runs {
		each(r)
	}
	each(m.Tail)
}

// stream is an image with its places in the lists of the table.
type stream struct {
	Image
	held             uint64 // records that have positions
	inAll, inProject *list.Element
}

// oldest is the number of the first record that has a position.
func (s *stream) oldest() uint64 { return s.Last - s.held + 1 }

// add appends a run.
func (s *stream) add(r Run) {
	s.Last += uint64(r.Count)
	s.held += uint64(r.Count)
	switch {
	case s.Tail.Count == 0:
		s.Tail = r
	case s.Tail.follows(r):
		s.Tail.Count += r.Count
	default:
		s.Runs, s.Tail = append(s.Runs, s.Tail), r
	}
	for s.held > Window {
		first := &s.Tail
		if len(s.Runs) > 0 {
			first = &s.Runs[0]
		}
		drop := min(uint64(first.Count-s.Skip), s.held-Window)
		s.held -= drop
		s.Skip += uint32(drop)
		if s.Skip < first.Count {
			break
		}
		s.Runs, s.Skip = s.Runs[1:], 0 // the tail has more: it alone is not over the window's end
	}
}

func (s *stream) bytes() int { return streamBytes + runBytes*len(s.Runs) }

// Table has the streams. Make one with [New].
type Table struct {
	byName   map[Name]*stream
	all      *list.List            // of *stream, the one that was used least recently first
	projects map[uint32]*list.List // of *stream, in the same order
	bytes    int
}

// New returns an empty table.
func New() *Table {
	return &Table{byName: map[Name]*stream{}, all: list.New(), projects: map[uint32]*list.List{}}
}

// Len is the number of streams.
func (t *Table) Len() int { return len(t.byName) }

// Bytes is the memory of the table, in bytes, without the reserve of slices and maps.
func (t *Table) Bytes() int { return t.bytes }

// Find returns the number of a stream's newest record, and that of the oldest one whose position is known.
func (t *Table) Find(name Name) (last, oldest uint64, ok bool) {
	s := t.byName[name]
	if s == nil {
		return 0, 0, false
	}
	return s.Last, s.oldest(), true
}

// Positions returns the positions of count records of a stream from a number on. All of them must have positions: see
// [Table.Find]. It makes the stream the one that was used last.
func (t *Table) Positions(name Name, first, count uint64) []Run {
	s := t.byName[name]
	t.use(s)
	var runs []Run
	number := s.oldest()
	s.Each(func(r Run) {
		before := uint64(0)
		if first > number {
			before = min(first-number, uint64(r.Count))
		}
		n := min(uint64(r.Count)-before, count)
		number += uint64(r.Count)
		if n > 0 {
			runs = append(runs, Run{Block: r.Block, Offset: r.Offset + uint32(before), Count: uint32(n)})
			count -= n
		}
	})
	return runs
}

// Add appends records to a stream of a project, which begins with them if it is not in the table. runs are their
// positions, of at least one record and in order. A stream that exceeds a bound of the table makes it forget the ones
// that were used least recently.
func (t *Table) Add(project uint32, name Name, runs []Run) {
	s := t.byName[name]
	if s == nil {
		s = &stream{Image: Image{Name: name, Project: project}}
		t.enter(s)
	}
	t.use(s)
	t.bytes -= s.bytes()
	for _, r := range runs {
		s.add(r)
	}
	t.bytes += s.bytes()
	for t.projects[project].Len() > PerProject {
		t.forget(t.projects[project].Front().Value.(*stream))
	}
	for t.bytes > MaxBytes && t.all.Len() > 1 {
		t.forget(t.all.Front().Value.(*stream))
	}
}

// enter adds a stream as the one that was used last.
func (t *Table) enter(s *stream) {
	of := t.projects[s.Project]
	if of == nil {
		of = list.New()
		t.projects[s.Project] = of
	}
	t.byName[s.Name] = s
	s.inAll, s.inProject = t.all.PushBack(s), of.PushBack(s)
	t.bytes += s.bytes()
}

func (t *Table) use(s *stream) {
	t.all.MoveToBack(s.inAll)
	t.projects[s.Project].MoveToBack(s.inProject)
}

func (t *Table) forget(s *stream) {
	delete(t.byName, s.Name)
	t.all.Remove(s.inAll)
	of := t.projects[s.Project]
	if of.Remove(s.inProject); of.Len() == 0 {
		delete(t.projects, s.Project)
	}
	t.bytes -= s.bytes()
}

// ForgetIf forgets the streams of which a known position is in a run that goes reports, and returns their number.
func (t *Table) ForgetIf(goes func(Run) bool) (forgotten int) {
	for e := t.all.Front(); e != nil; {
		s := e.Value.(*stream)
		e = e.Next()
		gone := false
		s.Each(func(r Run) { gone = gone || goes(r) })
		if gone {
			t.forget(s)
			forgotten++
		}
	}
	return forgotten
}

// Images returns all streams, the one that was used least recently first. They stay valid when the table changes.
func (t *Table) Images() []Image {
	images := make([]Image, 0, t.all.Len())
	for e := t.all.Front(); e != nil; e = e.Next() {
		images = append(images, e.Value.(*stream).Image)
	}
	return images
}

// Restore adds a stream that a snapshot has, as the one that was used last: its newest record's number and the
// positions of its newest records.
func (t *Table) Restore(project uint32, name Name, last uint64, runs []Run) error {
	if t.byName[name] != nil {
		return fmt.Errorf("stream %x occurs twice", name)
	}
	held := uint64(0)
	for i, r := range runs {
		if held += uint64(r.Count); r.Count == 0 || i > 0 && runs[i-1].follows(r) {
			return fmt.Errorf("stream %x: run %d is empty, or continues the one before it", name, i)
		}
	}
	if held == 0 || held > min(Window, last) {
		return fmt.Errorf("stream %x: %d positions of %d records", name, held, last)
	}
	s := &stream{Image: Image{Name: name, Project: project, Last: last}, held: held}
	s.Runs, s.Tail = runs[:len(runs)-1], runs[len(runs)-1]
	t.enter(s)
	return nil
}
