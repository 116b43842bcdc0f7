package transport

import (
	"crypto/hmac"
	"crypto/rand"
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
// The verdict good says that the side knows the start of its own that the other accepted last. Then each side writes
// the other's start to disk, the callee before its verdict and the caller after it, and the connection is open. The
// verdict stale says that it does not: its data folder is an older copy. The verdict displaced says that the other's
// last start still runs at its address: then the other is a copy that was started beside it. After both, the
// connection is closed, and the master concerned takes no more part in the group. No field is used before the mac
// behind it was checked. A probe ends after the callee's first answer: it asks which start runs at an address.
const (
	purposeRaft     = 0 // the connection is for raft
	purposeAnnounce = 1 // it is closed after the handshake
	purposeProbe    = 2 // it is closed after the callee's first answer

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

// startCheck is what a handshake of version 2 needs.
type startCheck struct {
	*Starts
	// runs reports whether a start of the other side runs at its address, beside the one that opens this connection.
	runs func(previous Start) bool
	// identified is called with the other side's last start and its present one, before the latter is accepted.
	identified func(previous, opener Start)
}

// verdictOn judges both sides of a handshake: this one by the start of it that the other accepted last, and the other
// by whether its last start still runs.
func (a *startCheck) verdictOn(acceptedByOther, previous, now Start) byte {
	switch {
	case !a.knows(acceptedByOther):
		return verdictStale
	case previous.id != (Start{}).id && previous.id != now.id && a.runs(previous):
		return verdictDisplaced
	}
	return verdictGood
}

// acceptPeer records the other side's start, once both verdicts are good. own is the start that the other side has
// seen.
func (a *startCheck) acceptPeer(member string, previous, now, own Start) error {
	a.identified(previous, now)
	switch accepted, err := a.accept(member, previous, now); {
	case err != nil:
		return err
	case !accepted:
		return fmt.Errorf("%w: another start of master %s was accepted meanwhile", errHandshake, member)
	}
	a.setKnownTo(member, own)
	return nil
}

// startsShown is what a caller sends behind its hello.
type startsShown struct {
	purpose byte
	caller  Start
	callee  Start // the last that the caller accepted
}

const startsShownSize = 1 + 2*startSize

func (p startsShown) appendTo(b []byte) []byte {
	return p.callee.appendTo(p.caller.appendTo(append(b, p.purpose)))
}

func parseStartsShown(b []byte) startsShown {
	return startsShown{purpose: b[0], caller: parseStart(b[1:]), callee: parseStart(b[1+startSize:])}
}

// sendVerdict sends a verdict. Where it is not good, the error says what it means.
func (k Key) sendVerdict(conn io.Writer, label string, raw []byte, verdict byte, other string) error {
	message := []byte{verdict}
	_, err := conn.Write(append(message, k.mac(label, raw, message)...))
	switch verdict {
	case verdictStale:
		return errors.Join(fmt.Errorf("%w: %w, according to %s", errHandshake, errOlderCopy, other), err)
	case verdictDisplaced:
		return errors.Join(fmt.Errorf("%w: a copy of the data folder of master %s was started beside it",
			errHandshake, other), err)
	}
	return err
}

// readVerdict reads the other side's verdict. Where it is not good, the error says what it means.
func (k Key) readVerdict(conn io.Reader, label string, raw []byte, other string) error {
	var message [1 + macSize]byte
	if _, err := io.ReadFull(conn, message[:]); err != nil {
		return fmt.Errorf("%w: no proof of the cluster token came: %w", errHandshake, err)
	}
	if !hmac.Equal(message[1:], k.mac(label, raw, message[:1])) {
		return fmt.Errorf("%w: the other side has another cluster token", errHandshake)
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

// callWithStart does the caller's part of version 2. The error wraps [errStaleFolder] where this master's folder is an
// older copy or a second copy, and [ErrStarts] where a start cannot be written.
func (k Key) callWithStart(conn io.ReadWriter, h hello, version, purpose byte, a startCheck) error {
	answer, err := k.ask(conn, h, version, purpose, a.Starts)
	if err != nil {
		return err
	}
	shown := answer.shown
	verdict := a.verdictOn(answer.acceptedByCallee, shown.callee, answer.callee)
	if err := k.sendVerdict(conn, "caller", answer.raw, verdict, h.callee); err != nil {
		return err
	}
	if err := k.readVerdict(conn, "end", answer.raw, h.callee); err != nil {
		return err
	}
	return a.acceptPeer(h.callee, shown.callee, answer.callee, shown.caller)
}

// firstAnswer is what a caller knows after the callee's first answer.
type firstAnswer struct {
	shown            startsShown // by the caller
	raw              []byte      // everything that was said, without the mac
	callee           Start
	acceptedByCallee Start // the last start of the caller
}

// ask sends a hello and reads the callee's first answer.
func (k Key) ask(conn io.ReadWriter, h hello, version, purpose byte, s *Starts) (firstAnswer, error) {
	raw, err := h.encode(version)
	if err != nil {
		return firstAnswer{}, err
	}
	own, err := s.Current()
	if err != nil {
		return firstAnswer{}, err
	}
	shown := startsShown{purpose: purpose, caller: own, callee: s.lastOf(h.callee)}
	raw = shown.appendTo(raw)
	if _, err := conn.Write(raw); err != nil {
		return firstAnswer{}, err
	}
	var answer [nonceSize + 2*startSize + macSize]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return firstAnswer{}, noAnswer(err)
	}
	body, mac := answer[:len(answer)-macSize], answer[len(answer)-macSize:]
	if !hmac.Equal(mac, k.mac("callee", raw, body)) {
		return firstAnswer{}, fmt.Errorf("%w: the other side has another cluster token", errHandshake)
	}
	return firstAnswer{
		shown: shown, raw: append(raw, body...),
		callee: parseStart(body[nonceSize:]), acceptedByCallee: parseStart(body[nonceSize+startSize:]),
	}, nil
}

// answerWithStart does the callee's part of version 2, after the hello. It returns what the connection is for. Errors
// are those of callWithStart.
func (k Key) answerWithStart(conn io.ReadWriter, h hello, raw []byte, a startCheck) (purpose byte, err error) {
	rest := make([]byte, startsShownSize)
	if _, err := io.ReadFull(conn, rest); err != nil {
		return 0, fmt.Errorf("%w: %w", errHandshake, err)
	}
	raw = append(raw, rest...)
	shown, previous := parseStartsShown(rest), a.lastOf(h.caller)
	own, err := a.Current()
	if err != nil {
		return 0, err
	}
	body := make([]byte, nonceSize, nonceSize+2*startSize+macSize)
	rand.Read(body)
	body = previous.appendTo(own.appendTo(body))
	if _, err := conn.Write(append(body, k.mac("callee", raw, body)...)); err != nil {
		return 0, err
	}
	if shown.purpose == purposeProbe {
		return purposeProbe, nil
	}
	raw = append(raw, body...)
	if err := k.readVerdict(conn, "caller", raw, h.caller); err != nil {
		return 0, err
	}
	verdict := a.verdictOn(shown.callee, previous, shown.caller)
	if verdict != verdictGood {
		return 0, k.sendVerdict(conn, "end", raw, verdict, h.caller)
	}
	if err := a.acceptPeer(h.caller, previous, shown.caller, own); err != nil {
		return 0, err
	}
	return shown.purpose, k.sendVerdict(conn, "end", raw, verdict, h.caller)
}
