package logstore

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// segmentsFormat is the format of the file "segments". Its body:
//
//	next id u64 ‖ count u32 ‖ segment × count
//	segment = id u64 ‖ first entry u64 ‖ first kept u64 ‖ last kept u64 ‖ codec u64 ‖ index block u64 ‖ size limit u32
//	          ‖ created u64 ‖ completed u64
//
// All but the last segment are complete. Their index block is at that byte of the file. Times are in unix nanoseconds;
// that of completion is 0 for the last segment, which has no last kept entry and no index block either.
var segmentsFormat = durable.Format{Magic: "CSLS", Version: 1, Zeros: 3, Remedy: raftconfig.Remedy}

const segmentBytes = 8*8 + 4

func segmentsPath(dir string) string { return filepath.Join(dir, "segments") }

// segmentPath returns the path of a segment's file.
func segmentPath(dir string, s types.SegmentInfo) string {
	return filepath.Join(dir, segment.FileName(s))
}

func writeSegments(dir string, state types.PersistentState) error {
	b := binary.BigEndian.AppendUint64(nil, state.NextSegmentID)
	b = binary.BigEndian.AppendUint32(b, uint32(len(state.Segments)))
	for _, s := range state.Segments {
		for _, v := range []uint64{s.ID, s.BaseIndex, s.MinIndex, s.MaxIndex, s.Codec, s.IndexStart} {
			b = binary.BigEndian.AppendUint64(b, v)
		}
		b = binary.BigEndian.AppendUint32(b, s.SizeLimit)
		b = binary.BigEndian.AppendUint64(b, uint64(s.CreateTime.UnixNano()))
		var completed uint64
		if !s.SealTime.IsZero() {
			completed = uint64(s.SealTime.UnixNano())
		}
		b = binary.BigEndian.AppendUint64(b, completed)
	}
	return segmentsFormat.Write(segmentsPath(dir), b)
}

func readSegments(dir string) (state types.PersistentState, err error) {
	err = segmentsFormat.Read(segmentsPath(dir), func(f *durable.Fields) { state = parseSegments(f) })
	return state, err
}

// parseSegments reads the body of the file.
func parseSegments(f *durable.Fields) (state types.PersistentState) {
	state.NextSegmentID = f.Uint64()
	count := f.Count(segmentBytes)
	for i := range count {
		s := types.SegmentInfo{
			ID: f.Uint64(), BaseIndex: f.Uint64(), MinIndex: f.Uint64(), MaxIndex: f.Uint64(), Codec: f.Uint64(),
			IndexStart: f.Uint64(), SizeLimit: f.Uint32(), CreateTime: time.Unix(0, int64(f.Uint64())),
		}
		if completed := f.Uint64(); completed != 0 {
			s.SealTime = time.Unix(0, int64(completed))
		}
		if f.Failed() {
			return state
		}
		if sealed, last := !s.SealTime.IsZero(), i == count-1; sealed == last || s.BaseIndex == 0 ||
			s.MinIndex < s.BaseIndex || s.ID >= state.NextSegmentID || sealed && s.MaxIndex < s.MinIndex ||
			i > 0 && state.Segments[i-1].MaxIndex+1 != s.BaseIndex {
			f.Fail(errors.New("its segments contradict each other"))
			return state
		}
		state.Segments = append(state.Segments, s)
	}
	return state
}

// metaStore keeps the list of segments for the library, in the file "segments".
type metaStore struct {
	dir    string
	failed func(error) error
	disk   disk

	mu    sync.Mutex // guards state
	state types.PersistentState
}

// Load returns the list as [Open] has read it.
func (m *metaStore) Load(string) (types.PersistentState, error) { return m.segments(), nil }

func (m *metaStore) segments() types.PersistentState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// CommitState replaces the list. The library ignores the error of some of its callers, so it is also reported.
func (m *metaStore) CommitState(state types.PersistentState) error {
	err := m.failed(untilRoom(func() error {
		return m.disk.do("replace", segmentsPath(m.dir), func() error { return writeSegments(m.dir, state) })
	}))
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = state
	return nil
}

var errNoStable = errors.New("this log has no stable store")

// GetStable returns an error: terms and votes are elsewhere.
func (m *metaStore) GetStable([]byte) ([]byte, error) { return nil, errNoStable }

// SetStable returns an error.
func (m *metaStore) SetStable(_, _ []byte) error { return errNoStable }

// Close does nothing.
func (m *metaStore) Close() error { return nil }

// begins reports whether a segment begins with an entry.
func (m *metaStore) begins(index uint64) bool {
	return slices.ContainsFunc(m.segments().Segments, func(s types.SegmentInfo) bool { return s.BaseIndex == index })
}

// fileOf returns the path of the segment that has an entry, the folder if there is none.
func (m *metaStore) fileOf(index uint64) string {
	list := m.segments().Segments
	for _, s := range slices.Backward(list) {
		if s.BaseIndex <= index {
			return segmentPath(m.dir, s)
		}
	}
	return m.dir
}

const (
	roomPause    = 20 * time.Millisecond
	roomAttempts = 50
)

// untilRoom repeats an operation that finds no room or no descriptor, for about a second.
func untilRoom(operation func() error) (err error) {
	for range roomAttempts {
		if err = operation(); !durable.CanRetry(err) {
			return err
		}
		time.Sleep(roomPause)
	}
	return err
}
