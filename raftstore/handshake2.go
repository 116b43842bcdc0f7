package raftstore

import (
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
)

// Version 2 of the handshake, from protocol level 1 on, in which both sides also show their newest start and what they last heard of the
// other's: see [starts].
//
//	caller: magic "CSRH" ‖ version u8 = 2 ‖ nonce[32] ‖ len8 ‖ group ‖ len8 ‖ caller's id ‖ len8 ‖ id of the member meant ‖
//	        purpose u8 ‖ caller's start ‖ the last start of the callee that the caller accepted
//	callee: nonce[32] ‖ callee's start ‖ the last start of the caller that the callee accepted ‖ mac over "callee" ‖ all before it
//	caller: verdict u8 ‖ mac over "caller" ‖ all before it
//	callee: verdict u8 ‖ mac over "end" ‖ all before it
//
// The verdict good says that the side knows the start that the other last heard of it; then each writes down the other's start, the callee
// before its verdict and the caller after it, and the connection is open. The verdict stale says that it does not: its data folder is an
// older copy. The verdict displaced says that the other's last start still runs, at its address: then the other is a copy that was started
// beside it. After both, the connection is closed, and the master concerned takes part in nothing any more. Nothing is believed before the
// mac that goes with it. A probe ends after the callee's first answer: it asks which start runs at an address.
const (
	helloVersionStarts = 2

	purposeRaft     = 0 // the connection is for raft
	purposeAnnounce = 1 // it is closed after the handshake
	purposeProbe    = 2 // it is closed after the callee's first answer

	verdictStale     = 0
	verdictGood      = 1
	verdictDisplaced = 2
)

var (
	// errStaleFolder: this master must take part in nothing. The two errors below wrap it and say why.
	errStaleFolder = errors.New("another process has this data folder or had a newer one")
	errOlderCopy   = fmt.Errorf("%w: a master of this group knows of a newer start of it", errStaleFolder)
	errBeside      = fmt.Errorf("%w: the start before this one still runs at its address", errStaleFolder)
)

// acquaintance is what a handshake of version 2 goes by.
type acquaintance struct {
	*starts
	// runs reports whether a start of the other side runs at its address, beside the one that opens this connection.
	runs func(before start) bool
	// opened is called with the other side's last start and the present one, before that is accepted.
	opened func(before, now start)
}

// verdictOn judges both sides of a handshake: this one by what the other heard of it, and the other by whether its last start still runs.
func (a *acquaintance) verdictOn(heard, before, now start) byte {
	switch {
	case !a.knows(heard):
		return verdictStale
	case before.id != (start{}).id && before.id != now.id && a.runs(before):
		return verdictDisplaced
	}
	return verdictGood
}

// parting is what remains of a handshake of version 2 behind the names.
type parting struct {
	purpose byte
	caller  start
	callee  start // the last that the caller accepted
}

const partingSize = 1 + 2*startSize

func (p parting) appendTo(b []byte) []byte {
	return p.callee.appendTo(p.caller.appendTo(append(b, p.purpose)))
}

func parseParting(b []byte) parting {
	return parting{purpose: b[0], caller: parseStart(b[1:]), callee: parseStart(b[1+startSize:])}
}

// verdict sends a verdict. The error says what it means where it is not good.
func (k handshakeKey) verdict(conn io.Writer, label string, raw []byte, verdict byte, other string) error {
	message := []byte{verdict}
	_, err := conn.Write(append(message, k.mac(label, raw, message)...))
	switch verdict {
	case verdictStale:
		return errors.Join(fmt.Errorf("%w: %w, as %s says", errHandshake, errOlderCopy, other), err)
	case verdictDisplaced:
		return errors.Join(fmt.Errorf("%w: a copy of the data folder of master %s was started beside it", errHandshake, other), err)
	}
	return err
}

// readVerdict reads the other side's verdict. The error says what it means where it is not good.
func (k handshakeKey) readVerdict(conn io.Reader, label string, raw []byte, other string) error {
	var message [1 + macSize]byte
	if _, err := io.ReadFull(conn, message[:]); err != nil {
		return fmt.Errorf("%w: no proof of the cluster token came: %w", errHandshake, err)
	}
	if !hmac.Equal(message[1:], k.mac(label, raw, message[:1])) {
		return fmt.Errorf("%w: it has another cluster token", errHandshake)
	}
	switch message[0] {
	case verdictGood:
		return nil
	case verdictStale:
		return fmt.Errorf("%w: master %s runs with an older copy of its data folder; it must join as a new one", errHandshake, other)
	case verdictDisplaced:
		return fmt.Errorf("%w: %w, as %s says", errHandshake, errBeside, other)
	}
	return fmt.Errorf("%w: verdict %d is not known", errHandshake, message[0])
}

// callWithStart opens a connection as the caller. The error wraps [errStaleFolder] where this master's folder is an older copy or a copy that
// was started beside it, and [ErrDisk] where a start cannot be written down.
func (k handshakeKey) callWithStart(conn io.ReadWriter, h hello, purpose byte, a acquaintance) error {
	p, raw, callee, heard, err := k.ask(conn, h, purpose, a.starts)
	if err != nil {
		return err
	}
	if err := k.verdict(conn, "caller", raw, a.verdictOn(heard, p.callee, callee), h.callee); err != nil {
		return err
	}
	if err := k.readVerdict(conn, "end", raw, h.callee); err != nil {
		return err
	}
	a.opened(p.callee, callee)
	switch accepted, err := a.accept(h.callee, p.callee, callee); {
	case err != nil:
		return err
	case !accepted:
		return fmt.Errorf("%w: another start of master %s was heard of meanwhile", errHandshake, h.callee)
	}
	a.tell(h.callee, p.caller)
	return nil
}

// ask sends a hello and reads the callee's first answer: its present start, and what it heard last of the caller's.
func (k handshakeKey) ask(conn io.ReadWriter, h hello, purpose byte, s *starts) (p parting, raw []byte, callee, heard start, err error) {
	fail := func(err error) (parting, []byte, start, start, error) { return p, nil, start{}, start{}, err }
	if raw, err = h.encode(helloVersionStarts); err != nil {
		return fail(err)
	}
	own, err := s.current()
	if err != nil {
		return fail(err)
	}
	p = parting{purpose: purpose, caller: own, callee: s.lastOf(h.callee)}
	raw = p.appendTo(raw)
	if _, err := conn.Write(raw); err != nil {
		return fail(err)
	}
	var answer [nonceSize + 2*startSize + macSize]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return fail(noAnswer(err))
	}
	body, mac := answer[:len(answer)-macSize], answer[len(answer)-macSize:]
	if !hmac.Equal(mac, k.mac("callee", raw, body)) {
		return fail(fmt.Errorf("%w: the other side has another cluster token", errHandshake))
	}
	return p, append(raw, body...), parseStart(body[nonceSize:]), parseStart(body[nonceSize+startSize:]), nil
}

// answerWithStart takes a connection as the callee, after the hello with its names, and returns what the connection is for. Errors are those of
// callWithStart.
func (k handshakeKey) answerWithStart(conn io.ReadWriter, h hello, raw []byte, a acquaintance) (purpose byte, err error) {
	rest := make([]byte, partingSize)
	if _, err := io.ReadFull(conn, rest); err != nil {
		return 0, fmt.Errorf("%w: %w", errHandshake, err)
	}
	raw = append(raw, rest...)
	p, heard := parseParting(rest), a.lastOf(h.caller)
	own, err := a.current()
	if err != nil {
		return 0, err
	}
	body := make([]byte, nonceSize, nonceSize+2*startSize+macSize)
	rand.Read(body)
	body = heard.appendTo(own.appendTo(body))
	if _, err := conn.Write(append(body, k.mac("callee", raw, body)...)); err != nil {
		return 0, err
	}
	if p.purpose == purposeProbe {
		return purposeProbe, nil
	}
	raw = append(raw, body...)
	if err := k.readVerdict(conn, "caller", raw, h.caller); err != nil {
		return 0, err
	}
	verdict := a.verdictOn(p.callee, heard, p.caller)
	if verdict != verdictGood {
		return 0, k.verdict(conn, "end", raw, verdict, h.caller)
	}
	a.opened(heard, p.caller)
	switch accepted, err := a.accept(h.caller, heard, p.caller); {
	case err != nil:
		return 0, err
	case !accepted:
		return 0, fmt.Errorf("%w: another start of master %s was heard of meanwhile", errHandshake, h.caller)
	}
	a.tell(h.caller, own)
	return p.purpose, k.verdict(conn, "end", raw, verdict, h.caller)
}
