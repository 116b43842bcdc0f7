package logstore

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// folder is a log's folder that is being checked and made ready for the library.
type folder struct {
	dir    string
	aside  string // where files go that do not belong to the log
	warn   func(text string, args ...any)
	disk   disk
	state  types.PersistentState
	mark   mark
	first  uint64 // entries of the log, 0 if there is none
	last   uint64
	end    int64 // of the content of the last segment
	newest mark  // that of the newest entry
	keys   *keyring
	plain  map[uint64]bool // the ids of segments with entries in clear
	kept   bool            // the data keys are also beside what was moved aside
}

// prepare checks all files of a log and makes it ready for the library. The error names a file. It wraps
// [durable.ErrDamaged] if the log has lost an entry or is not as it was written; then nothing was changed.
func (f *folder) prepare() (err error) {
	if f.state, err = readSegments(f.dir); err != nil {
		return lost(segmentsPath(f.dir), err)
	}
	if f.mark, err = readMark(f.dir); err != nil {
		return lost(markPath(f.dir), err)
	}
	found, err := f.scanAll()
	if err != nil {
		return err
	}
	if err := f.moveUnlisted(); err != nil {
		return err
	}
	for i, s := range f.state.Segments {
		if err := f.finish(s, found[i]); err != nil {
			return fmt.Errorf("%s: %w", segmentPath(f.dir, s), err)
		}
	}
	if n := len(found); n > 0 {
		f.end = found[n-1].end
		if found[n-1].indexStart > 0 {
			f.end = 0
			if err := f.addSegment(found[n-1]); err != nil {
				return err
			}
		}
	}
	return durable.SyncDir(f.dir)
}

// lost returns the error of a file that must be there.
func lost(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: it is missing (%s)", path, durable.ErrDamaged, raftconfig.Remedy)
	}
	return err
}

// scanAll reads all segments and compares them with their list and with the mark.
func (f *folder) scanAll() ([]scanned, error) {
	check := checkMark{mark: f.mark}
	found := make([]scanned, len(f.state.Segments))
	for i, s := range f.state.Segments {
		path, sealed := segmentPath(f.dir, s), !s.SealTime.IsZero()
		var err, missing error
		found[i], err = scanFile(path, s, func(l *raft.Log) {
			removed := sealed && l.Index > s.MaxIndex
			if err := f.noteKey(s, l); err != nil && !removed && l.Index >= s.MinIndex {
				missing = cmp.Or(missing, err)
			}
			if removed {
				return
			}
			check.visit(l)
			if l.Index == s.BaseIndex {
				f.newest = mark{base: s.BaseIndex}
			}
			f.newest.add(l)
		})
		switch {
		case errors.Is(err, fs.ErrNotExist) && !sealed:
			// It was listed before it was made, and has no entry yet.
			found[i].batchEnd = batchEnd{last: s.BaseIndex - 1}
		case errors.Is(err, fs.ErrNotExist):
			return nil, lost(path, err)
		case err == nil && sealed:
			err = checkSealed(s, found[i])
		}
		if err == nil && missing != nil {
			return nil, fmt.Errorf("%s: %w", path, missing)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			if errors.Is(err, durable.ErrDamaged) {
				err = fmt.Errorf("%w (%s)", err, raftconfig.Remedy)
			}
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		last := found[i].last
		if sealed {
			last = s.MaxIndex
		}
		if last >= s.MinIndex {
			f.last = last
			if f.first == 0 {
				f.first = s.MinIndex
			}
		}
	}
	check.first, check.last = f.first, f.last
	if err := check.end(); err != nil {
		name := f.dir
		if n := len(found); n > 0 {
			name = segmentPath(f.dir, f.state.Segments[n-1])
			if torn := found[n-1].torn; torn != nil {
				err = fmt.Errorf("%w: %w", err, torn)
			}
		}
		return nil, fmt.Errorf("%s: %w: according to %s, %w (%s)", name, durable.ErrDamaged, markPath(f.dir), err,
			raftconfig.Remedy)
	}
	if f.last == 0 {
		f.newest = mark{}
	}
	return found, nil
}

// noteKey notes which data key an entry needs. The error wraps [durable.ErrDamaged] if there is none of that number.
func (f *folder) noteKey(s types.SegmentInfo, l *raft.Log) error {
	number, encrypted, err := keyOf(l)
	switch {
	case err != nil:
		return err
	case !encrypted:
		f.plain[s.ID] = true
		return nil
	}
	for i := range f.keys.list {
		if key := &f.keys.list[i]; key.number == number {
			key.newest = max(key.newest, l.Index)
			return nil
		}
	}
	return f.keys.errNoNumber(l.Index, number)
}

// checkSealed compares the file of a complete segment with its entry in the list.
func checkSealed(s types.SegmentInfo, found scanned) error {
	switch {
	case found.torn != nil:
		return fmt.Errorf("%w: %w", durable.ErrDamaged, found.torn)
	case found.indexStart == 0 || found.indexStart != s.IndexStart:
		return fmt.Errorf("%w: its index block is at byte %d, not at %d", durable.ErrDamaged, found.indexStart,
			s.IndexStart)
	case found.last < s.MaxIndex:
		return fmt.Errorf("%w: it ends with entry %d, not with %d", durable.ErrDamaged, found.last, s.MaxIndex)
	}
	return nil
}

func scanFile(path string, s types.SegmentInfo, visit func(*raft.Log)) (found scanned, err error) {
	file, err := durable.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return found, err
	}
	return scan(file, info.Size(), s, visit)
}

// moveUnlisted moves the segments that the list does not have to the folder aside: the library would delete them. A
// process that was killed while it removed a segment leaves one.
func (f *folder) moveUnlisted() error {
	listed := map[string]bool{}
	for _, s := range f.state.Segments {
		listed[segment.FileName(s)] = true
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".wal") && !listed[name] {
			to, err := f.placeAside(name)
			if err != nil {
				return err
			}
			if err := durable.Rename(filepath.Join(f.dir, name), to); err != nil {
				return err
			}
			f.warn("a segment that is not part of the log was moved aside", "file", name, "to", to)
			if err := f.keepKeys(); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepKeys copies the data keys to the folder aside, so that what was moved there can be decrypted.
func (f *folder) keepKeys() error {
	if f.kept || len(f.keys.list) == 0 {
		return nil
	}
	to, err := f.placeAside(filepath.Base(f.keys.path))
	if err == nil {
		err = durable.WriteFile(to, encodeKeys(f.keys.list), 0o600)
	}
	if err != nil && !durable.NoSpace(err) {
		return err
	}
	f.kept = true
	return nil
}

// placeAside returns a free path for a file in the folder aside.
func (f *folder) placeAside(name string) (string, error) {
	if err := durable.MkdirAll(f.aside); err != nil {
		return "", err
	}
	path := filepath.Join(f.aside, name)
	for n := 1; ; n++ {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return path, nil
		} else if err != nil {
			return "", err
		}
		path = filepath.Join(f.aside, fmt.Sprintf("%s-%d", name, n))
	}
}

// finish makes a segment durable up to its last complete batch, and removes what is behind it. What the mark has was
// synced; what follows it may not be, so it is written again: after a failed sync a second one would not write it.
func (f *folder) finish(s types.SegmentInfo, found scanned) (err error) {
	from := int64(0)
	if f.mark.index >= s.BaseIndex {
		from = found.contains(f.mark.index).end
	}
	cut := s.SealTime.IsZero() && found.rest > 0
	if from >= found.end && !cut {
		return nil
	}
	file, err := durable.OpenFile(segmentPath(f.dir, s), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if cut {
		if err := f.cutRest(file, s, found); err != nil {
			return err
		}
	}
	buf := make([]byte, readBytes)
	for at := from; at < found.end; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), found.end-at)]
		if _, err := file.ReadAt(buf, at); err != nil {
			return err
		}
		err := f.disk.do("write", file.Name(), func() error {
			_, err := file.WriteAt(buf, at)
			return err
		})
		if err != nil {
			return err
		}
	}
	return f.disk.do("sync", file.Name(), func() error { return syncData(file) })
}

// cutRest removes what is behind the last complete batch. A copy goes to the folder aside.
func (f *folder) cutRest(file *os.File, s types.SegmentInfo, found scanned) error {
	rest := make([]byte, found.rest)
	if _, err := file.ReadAt(rest, found.end); err != nil {
		return err
	}
	to, err := f.placeAside(fmt.Sprintf("%s-%d", segment.FileName(s), found.end))
	if err == nil {
		err = durable.WriteFile(to, rest, 0o600)
	}
	if err != nil && !durable.NoSpace(err) {
		return err
	}
	if err := f.keepKeys(); err != nil {
		return err
	}
	f.warn("the end of a segment is no complete batch and was cut off: the entries in it were never acknowledged, "+
		"or there was a power cut and they are damaged", "segment", segment.FileName(s), "bytes", found.rest,
		"why", found.torn, "copy", to)
	return f.disk.do("truncate", file.Name(), func() error { return file.Truncate(found.end) })
}

// addSegment lists the last segment as complete, as its file is, and a new one behind it. The last process was killed
// in between. The library would refuse to append.
func (f *folder) addSegment(found scanned) error {
	tail := &f.state.Segments[len(f.state.Segments)-1]
	tail.SealTime, tail.MaxIndex, tail.IndexStart = time.Now(), found.last, found.indexStart
	f.state.Segments = append(f.state.Segments, types.SegmentInfo{
		ID: f.state.NextSegmentID, BaseIndex: found.last + 1, MinIndex: found.last + 1, Codec: wal.CodecBinaryV1,
		SizeLimit: tail.SizeLimit, CreateTime: time.Now(),
	})
	f.state.NextSegmentID++
	return f.disk.do("replace", segmentsPath(f.dir), func() error { return writeSegments(f.dir, f.state) })
}
