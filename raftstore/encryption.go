package raftstore

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/raftstore/logstore"
	"github.com/chainstore/chainstore/raftstore/snapfile"
	"github.com/chainstore/chainstore/wire"
)

// asidePath returns the path of the folder for files that are moved aside.
func asidePath(dir string) string { return filepath.Join(dir, "damaged") }

// replaced returns the path of a log in whose place another one is put.
func (f *dataFolder) replaced() string { return logPath(f.dir) + ".old" }

// checkKeys returns an error that wraps [atrest.ErrNoKey] if a key is missing without which the folder cannot be read.
// Nothing is changed before this check: what cannot be decrypted is not damaged.
func (f *dataFolder) checkKeys() error {
	for _, dir := range []string{logPath(f.dir), f.replaced()} {
		if err := logstore.CheckKeys(dir, f.keys); err != nil {
			return err
		}
	}
	for _, id := range snapshotIDs(f.dir) {
		if err := snapfile.CheckKey(filepath.Join(snapshotsPath(f.dir), id), f.keys); err != nil {
			return err
		}
	}
	if f.identity.Version == encryptedAtRest && !f.keys.Has() {
		return fmt.Errorf("%s: the folder is %w: give the file with its keys",
			filepath.Join(f.dir, "master.json"), atrest.ErrNoKey)
	}
	return nil
}

// snapshotIDs returns the names of the folders of complete snapshots, in no order. One that cannot be listed has none.
func snapshotIDs(dir string) (ids []string) {
	entries, _ := os.ReadDir(snapshotsPath(dir)) // the store reports an error
	for _, e := range entries {
		if e.IsDir() && !strings.HasSuffix(e.Name(), snapshotSuffix) {
			ids = append(ids, e.Name())
		}
	}
	return ids
}

// encrypt brings log and snapshots under the operator's keys, before raft uses them. Without the room, the rest waits
// for the next start, and only what is new is encrypted. A log in raft.db is not encrypted: it moves first.
func (f *dataFolder) encrypt() error {
	if !f.keys.Has() || !f.identity.inSegments() {
		return nil
	}
	if id := f.identity; id.Version < encryptedAtRest { // from here on, an older program refuses the folder
		id.Version = encryptedAtRest
		if err := f.saveIdentity(id); err != nil {
			return err
		}
	}
	f.snaps.encrypts = true
	err := f.rewrite(f.keys, false)
	if err != nil && (!canWait(err) || f.segments == nil || f.fail.get() != nil) {
		return err
	}
	if err != nil {
		f.log.Warn("a part of the data folder stays in clear until the next start", "folder", f.dir, "error", err)
	}
	if err := f.rewrap(); err != nil && f.fail.get() == nil {
		f.log.Warn("files are not under the current at-rest key", "error", err) // followKeys tries it again
	}
	return f.fail.get()
}

// rewrite writes log and snapshots again: those that are not encrypted, or not decrypted if there are no keys; with all
// also the others, under new data keys. Where the error says that it can wait, the log is open and nothing is lost.
func (f *dataFolder) rewrite(keys *atrest.Ring, all bool) error {
	waits := f.snaps.rewriteAll(keys, all)
	if waits != nil && !canWait(waits) {
		return waits
	}
	found := f.segments.AtRest()
	if all || keys.Has() && found.Plain > 0 || !keys.Has() && len(found.Keys) > 0 {
		if err := f.rewriteLog(keys); err != nil && (!canWait(err) || waits == nil) {
			return err
		}
	}
	return waits
}

// rewriteLog puts a copy in the place of the log. After a kill, the next start has the whole log: see
// finishReplacement.
func (f *dataFolder) rewriteLog(keys *atrest.Ring) error {
	path := logPath(f.dir)
	failed := func(err error) error { return diskError("write "+path+" again", err) }
	if err := durable.HaveDescriptors(moveDescriptors); err != nil {
		return failed(err)
	}
	first, last, err := f.logs.bounds()
	if err != nil {
		return err
	}
	if err := f.reserved(folderBytes(path)); err != nil {
		return failed(fmt.Errorf("%w: %w", durable.ErrExhausted, err))
	}
	if err := os.RemoveAll(f.unused()); err != nil {
		return failed(err)
	}
	o := f.copyOptions()
	o.Keys = keys
	if err := logstore.Copy(f.unused(), f.segments, first, last, o); err != nil {
		return errors.Join(failed(err), os.RemoveAll(f.unused()))
	}
	err = f.segments.Close(true)
	f.segments = nil // no error can wait now
	if err == nil {
		err = durable.Rename(path, f.replaced())
	}
	if err == nil {
		err = durable.Rename(f.unused(), path)
	}
	if err != nil {
		return failed(err)
	}
	f.log.Info("the log was written again", "folder", path, "encrypted", keys.Has())
	return f.openSegments()
}

// finishReplacement finishes what a killed rewriteLog has left. The former log counts as long as the copy is not in its
// place: nothing was appended to the copy before.
func (f *dataFolder) finishReplacement() error {
	if _, err := os.Lstat(logPath(f.dir)); errors.Is(err, fs.ErrNotExist) {
		if err := durable.Rename(f.replaced(), logPath(f.dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(os.RemoveAll(f.replaced()), os.RemoveAll(f.unused()))
}

// folderBytes returns the size of the files in a folder, as far as it can be read.
func folderBytes(dir string) (bytes uint64) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			bytes += uint64(info.Size())
		}
	}
	return bytes
}

// rewriteAll writes snapshots again, the newest first: see [dataFolder.rewrite]. One that is damaged is moved aside if
// a newer one is good, so that nothing needs it.
func (s *snapshotStore) rewriteAll(keys *atrest.Ring, all bool) error {
	list, err := s.List()
	if err != nil {
		return err
	}
	encrypted := map[string]bool{}
	for _, meta := range list {
		_, encrypted[meta.ID], err = snapfile.KeyOf(filepath.Join(s.dir, meta.ID), stateFile)
		// The reader of the snapshot says what is damaged.
		if err != nil && !encrypted[meta.ID] && !durable.Absent(err) {
			return diskError("read the snapshot "+filepath.Join(s.dir, meta.ID), err)
		}
	}
	s.encrypts = keys.Has()
	for i, old := range list {
		if encrypted[old.ID] == keys.Has() && !all {
			continue
		}
		isCopy := func(m *raft.SnapshotMeta) bool { // of a run that was killed
			return m.Index == old.Index && m.Term == old.Term && encrypted[m.ID] == keys.Has() && !all &&
				s.isSame(m.ID, old.ID)
		}
		if !slices.ContainsFunc(list, isCopy) {
			switch err := s.copy(old); {
			case err != nil && i > 0 && s.isDamaged(old.ID) && s.hasNewer(old):
				s.log.Warn("a damaged snapshot is moved aside, a newer one is good", "snapshot", old.ID, "error", err)
				if err := moveAside(filepath.Join(s.dir, old.ID), asidePath(filepath.Dir(s.dir))); err != nil {
					return s.fail.disk("move the snapshot "+filepath.Join(s.dir, old.ID)+" aside", err)
				}
				continue
			case err != nil:
				return err
			}
		}
		if err := s.remove(old.ID); err != nil {
			return s.fail.disk("remove the snapshot "+filepath.Join(s.dir, old.ID), err)
		}
	}
	return s.findNewest()
}

// isDamaged reports whether the state in a snapshot is wrong or missing. One that cannot be read now need not be.
func (s *snapshotStore) isDamaged(id string) bool {
	_, err := s.digest(id, io.Discard)
	return err != nil && !durable.CannotRead(err) && !durable.NoResources(err) && !errors.Is(err, atrest.ErrNoKey)
}

// hasNewer reports whether there is a snapshot of a later entry that can be read to its end.
func (s *snapshotStore) hasNewer(old *raft.SnapshotMeta) bool {
	list, err := s.List()
	return err == nil && slices.ContainsFunc(list, func(m *raft.SnapshotMeta) bool {
		if m.Index <= old.Index {
			return false
		}
		_, err := s.digest(m.ID, io.Discard)
		return err == nil
	})
}

// moveAside moves a file or folder into another folder, which it makes if it is not there.
func moveAside(path, aside string) error {
	if err := durable.MkdirAll(aside); err != nil {
		return err
	}
	if err := os.Rename(path, filepath.Join(aside, filepath.Base(path))); err != nil {
		return err
	}
	return errors.Join(durable.SyncDir(aside), durable.SyncDir(filepath.Dir(path)))
}

// copy makes another snapshot of the same state, reads it back and compares.
func (s *snapshotStore) copy(old *raft.SnapshotMeta) error {
	if err := s.reserved(uint64(old.Size)); err != nil {
		return diskError("copy the snapshot "+old.ID, fmt.Errorf("%w: %w", durable.ErrExhausted, err))
	}
	_, trans := raft.NewInmemTransport("") // Create asks it for a name, for an old form of snapshots
	sink, err := s.Create(old.Version, old.Index, old.Term, old.Configuration, old.ConfigurationIndex, trans)
	if err != nil {
		return err
	}
	if k, ok := sink.(*snapshotSink); ok {
		k.own, k.copied = true, true
	}
	want, err := s.digest(old.ID, sink)
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return err
	}
	got, err := s.digest(sink.ID(), io.Discard)
	if err == nil && got != want {
		err = diskError("copy the snapshot "+old.ID, fmt.Errorf("what was written to %s is not what is read back",
			filepath.Join(s.dir, sink.ID())))
	}
	if err != nil { // it would be the newest one
		err = errors.Join(err, s.remove(sink.ID()), s.findNewest())
	}
	return err
}

// isSame reports whether two snapshots can be read and have the same state.
func (s *snapshotStore) isSame(id, other string) bool {
	sum, err := s.digest(id, io.Discard)
	otherSum, otherErr := s.digest(other, io.Discard)
	return err == nil && otherErr == nil && sum == otherSum
}

// digest copies the state in a snapshot to a writer, and returns its SHA-256.
func (s *snapshotStore) digest(id string, to io.Writer) (sum [sha256.Size]byte, err error) {
	reader, err := s.openReader(id)
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(to, h), reader.Reader); err != nil {
		return sum, snapshotDamaged(reader.path, err)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// rewrap brings all data keys under the operator's current key. It may be tried again after an error, unless a write
// has failed for another reason than a lack of room: that is reported as a failure.
func (f *dataFolder) rewrap() error {
	path := logPath(f.dir)
	changed, err := f.segments.Renew()
	switch {
	case err != nil && !errors.Is(err, logstore.ErrPutOff):
		return f.fail.disk("write to "+path, err)
	case err != nil:
		return diskError("write to "+path, err)
	case changed:
		f.log.Info("the log is under the current at-rest key", "key", f.keys.Current())
	}
	var errs []error
	for _, id := range snapshotIDs(f.dir) {
		errs = append(errs, f.snaps.rewrap(id))
	}
	return errors.Join(append(errs, f.rewrapAside())...)
}

// rewrap brings the data key of a snapshot under the operator's current key.
func (s *snapshotStore) rewrap(id string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	changed, err := snapfile.Rewrap(filepath.Join(s.dir, id), id, s.keys)
	switch {
	case errors.Is(err, fs.ErrNotExist): // a newer one has replaced it
		return nil
	case err != nil && (!changed || durable.CanRetry(err)):
		return diskError("snapshot "+id, err)
	case err != nil:
		return s.fail.disk("write to the snapshot "+id, err)
	case changed:
		s.log.Debug("a snapshot is under the current at-rest key", "snapshot", id)
	}
	return nil
}

// rewrapAside brings the data keys of what was moved aside under the operator's current key. Nothing needs these files:
// an error is not a failure, unless a sync failed.
func (f *dataFolder) rewrapAside() error {
	var errs []error
	entries, err := os.ReadDir(asidePath(f.dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, e := range entries {
		path := filepath.Join(asidePath(f.dir), e.Name())
		switch {
		case e.IsDir():
			_, err = snapfile.Rewrap(path, e.Name(), f.keys)
		case isKeyFile(e.Name()):
			err = logstore.RewrapKeys(path, f.keys)
		default:
			continue
		}
		if durable.IsSync(err) {
			return f.fail.disk("write to "+path, err)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

// isKeyFile reports whether a file that was moved aside has the data keys of a log.
func isKeyFile(name string) bool { return name == "keys" || strings.HasPrefix(name, "keys-") }

// followKeys reads the file of keys again when it changes, and brings all data keys under its first key, until the
// store stops. It looks at the files also without a change: a snapshot that was being written has the former key.
func (s *Store) followKeys() {
	if !s.keys.Has() {
		return
	}
	var reading, wrapping string // errors that were logged
	warn := func(last *string, text string, err error) {
		now := ""
		if err != nil {
			now = err.Error()
		}
		if now != *last && err != nil {
			s.log.Warn(text, "error", err)
		}
		*last = now
	}
	for {
		changed, err := s.keys.Reload()
		warn(&reading, "the file of at-rest keys is not used as it is, the keys that it had still are", err)
		if changed {
			s.log.Info("the file of at-rest keys has changed", "key", s.keys.Current())
		}
		err = nil
		if s.segments != nil {
			err = s.rewrap()
		}
		if s.fail.get() != nil {
			return
		}
		warn(&wrapping, "files are not under the current at-rest key", err)
		s.noteAtRest()
		if !s.pause(s.cfg.keysPause) {
			return
		}
	}
}

// AtRest describes the encryption of this master's folder. It returns nil where there is none.
func (s *Store) AtRest() *wire.AtRest { return s.atRest.Load() }

// noteAtRest brings what AtRest returns up to date.
func (s *Store) noteAtRest() {
	files := AtRestFiles{Keys: map[atrest.ID]int{}}
	if s.segments != nil {
		files.addLog(s.segments.AtRest())
	} else {
		files.Plain++ // raft.db
	}
	files.addSnapshots(s.dir)
	status := &wire.AtRest{Key: s.keys.Current().String(), Plain: uint64(files.Plain)}
	for id, count := range files.Keys {
		if id != s.keys.Current() {
			status.Old += uint64(count)
		}
	}
	s.atRest.Store(status)
}

// AtRestFiles counts the files of a data folder by the key that they need.
type AtRestFiles struct {
	Keys       map[atrest.ID]int // files with data keys, by the id of the operator's key
	Plain      int               // segments of the log and snapshots in clear
	Quarantine int               // files that were moved aside and are in clear
	Unread     []error           // files that cannot be read
}

func (f *AtRestFiles) addLog(found logstore.AtRest) {
	for _, id := range found.Keys {
		f.Keys[id]++
	}
	f.Plain += found.Plain
}

func (f *AtRestFiles) addSnapshots(dir string) {
	for _, id := range snapshotIDs(dir) {
		f.addSnapshot(filepath.Join(snapshotsPath(dir), id), &f.Plain)
	}
}

func (f *AtRestFiles) addSnapshot(dir string, plain *int) {
	switch id, encrypted, err := snapfile.KeyOf(dir, stateFile); {
	case errors.Is(err, fs.ErrNotExist): // it was removed meanwhile
	case err != nil:
		f.Unread = append(f.Unread, err)
	case encrypted:
		f.Keys[id]++
	default:
		*plain++
	}
}

// addAside counts what was moved aside.
func (f *AtRestFiles) addAside(dir string) {
	entries, err := os.ReadDir(asidePath(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.Unread = append(f.Unread, err)
	}
	for _, e := range entries {
		path := filepath.Join(asidePath(dir), e.Name())
		switch {
		case e.IsDir():
			f.addSnapshot(path, &f.Quarantine)
		case isKeyFile(e.Name()):
			ids, err := logstore.KeyIDs(path)
			if err != nil {
				f.Unread = append(f.Unread, err)
			}
			f.addLog(logstore.AtRest{Keys: ids})
		default:
			plain, err := logstore.HasPlain(path)
			if err != nil {
				f.Unread = append(f.Unread, err)
			}
			if plain {
				f.Quarantine++
			}
		}
	}
}

// IsFolder reports whether a folder is that of a master.
func IsFolder(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "master.json"))
	return err == nil
}

// CountAtRest counts the files of a data folder. It needs no key, and a master may run in the folder.
func CountAtRest(dir string) (AtRestFiles, error) {
	files := AtRestFiles{Keys: map[atrest.ID]int{}}
	id, err := loadIdentity(dir)
	if err != nil || id.isNew {
		return files, errors.Join(fmt.Errorf("%s is not the data folder of a master", dir), err)
	}
	if id.inSegments() {
		found, err := logstore.CountAtRest(logPath(dir))
		if err != nil {
			files.Unread = append(files.Unread, err)
		}
		files.addLog(found)
	} else {
		files.Plain++ // raft.db, which has the log
	}
	files.addSnapshots(dir)
	files.addAside(dir)
	return files, nil
}

// RewriteAtRest encrypts log and snapshots of a stopped master again, under new data keys. Without keys it decrypts
// them with former: an older program, or one without keys, opens the folder then. After an interruption it can be run
// again. mark remembers a failed sync; nil for none.
func RewriteAtRest(dir string, keys, former *atrest.Ring, mark *durable.SyncMark) (err error) {
	if !IsFolder(dir) {
		return fmt.Errorf("%s is not the data folder of a master", dir)
	}
	with := keys
	if !keys.Has() {
		with = former
	}
	r, err := OpenFolder(dir, with, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	r.fail.mark = mark
	switch {
	case len(r.damaged) > 0:
		return fmt.Errorf("%s is damaged, and is not changed: %w", r.damaged[0].Path, r.damaged[0].Err)
	case !r.identity.inSegments():
		return fmt.Errorf("%s has its log in raft.db, which is never encrypted: start the master once in a group of "+
			"protocol level 3 or higher", dir)
	}
	if err := r.fail.guard(func() error { return r.rewriteAtRest(keys) }); err != nil {
		r.fail.report(err)
		return err
	}
	return nil
}

func (r *Recovery) rewriteAtRest(keys *atrest.Ring) error {
	if err := (&Store{dataFolder: r.dataFolder}).checkFolder(); err != nil {
		return err
	}
	save := func(version int) error {
		id := r.identity
		id.Version = version
		return r.saveIdentity(id)
	}
	if keys.Has() { // an older program must refuse the folder first
		if err := save(encryptedAtRest); err != nil {
			return err
		}
	}
	if err := r.rewrite(keys, true); err != nil {
		return err
	}
	if !keys.Has() {
		return save(logInSegments)
	}
	return r.rewrap()
}
