package transport

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// Version 2 of the handshake and higher ones, from protocol level 1 on. Both sides also show their newest start, and
// the last start of the other that they accepted: see [Starts].
//
//	caller: hello ‖ purpose u8 ‖ caller's start ‖ the last start of the callee that the caller accepted
//	callee: nonce[32] ‖ callee's start ‖ the last start of the caller that the callee accepted ‖
//	        mac over "callee" ‖ everything before it
//	caller: verdict u8 ‖ mac over "caller" ‖ everything before the verdict ‖ verdict
//	callee: verdict u8 ‖ mac over "end" ‖ everything before the caller's verdict ‖ verdict
//
// From version 4 on each side also shows which failed sync of the other it knows, as [KernelDigest], behind the last
// start of the other. A side that finds its own kernel there closes the connection and stops: its kernel may show data
// that is not on its disk.
//
// The verdict good says that the side knows the start of its own that the other accepted last. Then each side writes
// the other's start to disk, the callee before its verdict and the caller after it, and the connection is open. The
// verdict stale says that it does not: its data folder is an older copy. The verdict displaced says that the other's
// last start still runs at its address: then the other is a copy that was started beside it. After both, the
// connection is closed, and the master concerned no longer takes part in the group. No field is used before the mac
// behind it was checked. A probe ends after the callee's first answer: it asks which start runs at an address. A
// connection for questions goes on as drawn in terms.go.
const (
	purposeRaft     = 0 // the connection is for raft
	purposeAnnounce = 1 // it is closed after the handshake
	purposeProbe    = 2 // it is closed after the callee's first answer
	purposeTerms    = 3 // the caller asks the callee for its term, from protocol level 3 on

	verdictStale     = 0
	verdictGood      = 1
	verdictDisplaced = 2
)

var (
	// errStaleFolder: this master must not take part in the group. The two errors below wrap it and say why.
	errStaleFolder = errors.New("another process has this data folder or had a newer one")
	errOlderCopy   = fmt.Errorf("%w: a master of this group knows of a newer start of it", errStaleFolder)
	errSecondCopy  = fmt.Errorf("%w: the start before this one still runs at its address", errStaleFolder)
)

const helloVersionFailedSyncs = 4

// ErrFailedSync: another member knows that a sync of this master's data folder failed under the present kernel.
var ErrFailedSync = errors.New("a sync of the data folder failed since the machine was started")

// KernelDigest names a kernel that runs: half of a SHA-256 of its boot id. The zero digest stands for none.
type KernelDigest [16]byte

// DigestKernel returns the digest of a boot id.
func DigestKernel(boot string) KernelDigest {
	sum := sha256.Sum256([]byte("chainstore kernel\x00" + boot))
	return KernelDigest(sum[:])
}

// shownSize is the size of what each side shows of starts and failed syncs.
func shownSize(version byte) int {
	if version < helloVersionFailedSyncs {
		return 2 * startSize
	}
	return 2*startSize + len(KernelDigest{})
}

// appendFailedSync appends the failed sync that this side knows of the other.
func (s *Stream) appendFailedSync(b []byte, version byte, member string) []byte {
	if version < helloVersionFailedSyncs {
		return b
	}
	digest := s.cfg.FailedSyncOf(member)
	return append(b, digest[:]...)
}

// checkFailedSync returns an error if the other side knows a failed sync of this master. shown is what it has shown,
// and was authenticated.
func (s *Stream) checkFailedSync(shown []byte, version byte, other string) error {
	if version < helloVersionFailedSyncs || !s.cfg.MustStop(KernelDigest(shown[2*startSize:])) {
		return nil
	}
	return fmt.Errorf("%w: %w, according to %s", errHandshake, ErrFailedSync, other)
}

// firstAnswer is what the caller knows after the callee's first answer.
type firstAnswer struct {
	transcript             []byte // without the mac
	caller, callee         Start
	lastCaller, lastCallee Start // the last start of each side that the other accepted

	shown []byte // by the callee
}

// judge returns this side's verdict. ownLast is the last start of this side that the other accepted. peerLast is the
// last start of the peer that this side accepted, and peer its present one.
func (s *Stream) judge(c *conn, member string, ownLast, peerLast, peer Start) byte {
	switch {
	case !s.cfg.Starts.contains(ownLast):
		return verdictStale
	case peerLast.id != (Start{}).id && peerLast.id != peer.id && s.isRunning(member, peerLast, c.dialled):
		return verdictDisplaced
	}
	return verdictGood
}

// acceptPeer records the present start of the peer, once both verdicts are good. own is the start that the peer has
// seen.
func (s *Stream) acceptPeer(c *conn, member string, peerLast, peer, own Start) error {
	c.identify(member, peerLast, peer)
	switch accepted, err := s.cfg.Starts.accept(member, peerLast, peer); {
	case err != nil:
		return err
	case !accepted:
		return fmt.Errorf("%w: another start of master %s was accepted meanwhile", errHandshake, member)
	}
	s.cfg.Starts.setAcceptedBy(member, own)
	return nil
}

// sendVerdict sends a verdict. If it is not good, the error explains it.
func (k Key) sendVerdict(conn io.Writer, label string, transcript []byte, verdict byte, other string) error {
	err := k.send(conn, label, transcript, []byte{verdict})
	switch verdict {
	case verdictStale:
		return errors.Join(fmt.Errorf("%w: %w, according to %s", errHandshake, errOlderCopy, other), err)
	case verdictDisplaced:
		return errors.Join(fmt.Errorf("%w: a copy of the data folder of master %s was started beside it",
			errHandshake, other), err)
	}
	return err
}

// readVerdict reads the other side's verdict. If it is not good, the error explains it.
func (k Key) readVerdict(conn io.Reader, label string, transcript []byte, other string) error {
	message, err := k.receive(conn, label, transcript, 1)
	if err != nil {
		return err
	}
	switch message[0] {
	case verdictGood:
		return nil
	case verdictStale:
		return fmt.Errorf("%w: master %s runs with an older copy of its data folder; it must join as a new one",
			errHandshake, other)
	case verdictDisplaced:
		return fmt.Errorf("%w: %w, according to %s", errHandshake, errSecondCopy, other)
	}
	return fmt.Errorf("%w: verdict %d is not known", errHandshake, message[0])
}

// callWithStart does the caller's part of version 2. The error wraps [errStaleFolder] if this master's folder is an
// older copy or a second copy, and [ErrStarts] if a start cannot be written.
func (s *Stream) callWithStart(c *conn, h hello, version, purpose byte) error {
	x, err := s.ask(c, h, version, purpose)
	if err != nil {
		return err
	}
	if err := s.checkFailedSync(x.shown, version, h.callee); err != nil {
		return err
	}
	verdict := s.judge(c, h.callee, x.lastCaller, x.lastCallee, x.callee)
	if err := c.key.sendVerdict(c, macCaller, x.transcript, verdict, h.callee); err != nil {
		return err
	}
	if err := c.key.readVerdict(c, macEnd, x.transcript, h.callee); err != nil {
		return err
	}
	return s.acceptPeer(c, h.callee, x.lastCallee, x.callee, x.caller)
}

// ask sends a hello and reads the callee's first answer.
func (s *Stream) ask(conn *conn, h hello, version, purpose byte) (x firstAnswer, err error) {
	if x.transcript, err = h.encode(version); err != nil {
		return x, err
	}
	if x.caller, err = s.cfg.Starts.Current(); err != nil {
		return x, err
	}
	x.lastCallee = s.cfg.Starts.lastOf(h.callee)
	x.transcript = x.lastCallee.appendTo(x.caller.appendTo(append(x.transcript, purpose)))
	x.transcript = s.appendFailedSync(x.transcript, version, h.callee)
	if _, err := conn.Write(x.transcript); err != nil {
		return x, err
	}
	body, err := conn.receiveProof(x.transcript, nonceSize+shownSize(version))
	if err != nil {
		return x, err
	}
	x.shown = body[nonceSize:]
	x.callee, x.lastCaller = parseStart(x.shown), parseStart(x.shown[startSize:])
	x.transcript = append(x.transcript, body...)
	return x, nil
}

// answerWithStart does the callee's part of version 2, after the hello. It returns what the connection is for. Errors
// are those of callWithStart.
func (s *Stream) answerWithStart(c *conn, h hello, transcript []byte) (purpose byte, err error) {
	version := transcript[len(helloMagic)]
	shown := make([]byte, 1+shownSize(version))
	if _, err := io.ReadFull(c, shown); err != nil {
		return 0, fmt.Errorf("%w: %w", errHandshake, err)
	}
	purpose = shown[0]
	caller, lastCallee := parseStart(shown[1:]), parseStart(shown[1+startSize:])
	lastCaller := s.cfg.Starts.lastOf(h.caller)
	callee, err := s.cfg.Starts.Current()
	if err != nil {
		return 0, err
	}
	transcript = append(transcript, shown...)
	body := lastCaller.appendTo(callee.appendTo(newNonce(shownSize(version) + macSize)))
	body = s.appendFailedSync(body, version, h.caller)
	c.useAny(h.caller)
	if err := c.key.send(c, macCallee, transcript, body); err != nil || purpose == purposeProbe {
		return purpose, err
	}
	transcript = append(transcript, body...)
	if err := c.key.readVerdict(c, macCaller, transcript, h.caller); err != nil {
		s.notAccepted(h.caller, err)
		return 0, err
	}
	s.learnHost(c, h.caller)
	s.gate.leave(c)
	if err := s.checkFailedSync(shown[1:], version, h.caller); err != nil {
		return 0, err
	}
	verdict := s.judge(c, h.caller, lastCallee, lastCaller, caller)
	if verdict == verdictGood {
		if err := s.acceptPeer(c, h.caller, lastCaller, caller, callee); err != nil {
			return 0, err
		}
	}
	return purpose, c.key.sendVerdict(c, macEnd, transcript, verdict, h.caller)
}
