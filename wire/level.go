package wire

import (
	"slices"
	"strings"
)

// ProtocolLevel is the highest protocol level that this program knows. Members and workers announce it. Package
// masterfsm says what each level adds.
const ProtocolLevel = 7

// LevelProofs is masterfsm.LevelProofs.
const LevelProofs = 6

// LevelJoining is masterfsm.LevelJoining.
const LevelJoining = 7

// LevelTLSSteps is masterfsm.LevelTLSSteps.
const LevelTLSSteps = 7

// TLSStep is a step of the move of a group from plain text to TLS. It is committed in the table.
type TLSStep string

// The steps, in their order.
const (
	// TLSByFlags is the step of a group that was never moved: a node with certificates speaks TLS only, and one without
	// plain text only.
	TLSByFlags TLSStep = ""
	// TLSAccept: a node with certificates takes both on each port, and calls the others in plain text.
	TLSAccept TLSStep = "accept"
	// TLSPrefer: as TLSAccept, and a node with certificates calls others over TLS if they have it.
	TLSPrefer TLSStep = "prefer"
	// TLSRequire: no node takes or sends plain text.
	TLSRequire TLSStep = "require"
)

// Name is the step in a text.
func (s TLSStep) Name() string {
	if s == TLSByFlags {
		return "none"
	}
	return string(s)
}

// Known reports whether s is a step that this version knows.
func (s TLSStep) Known() bool {
	return s == TLSByFlags || s == TLSAccept || s == TLSPrefer || s == TLSRequire
}

// LaterTLS returns the later one of two steps. One that this version does not know counts as the first.
func LaterTLS(a, b TLSStep) TLSStep {
	order := []TLSStep{TLSByFlags, TLSAccept, TLSPrefer, TLSRequire}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

// Mixed reports whether nodes with certificates take plain text too.
func (s TLSStep) Mixed() bool { return s == TLSAccept || s == TLSPrefer }

// URL returns the URL of a node with the scheme that the table has at the step. The port stays the same: one that the
// URL leaves out is that of the scheme before.
func (s TLSStep) URL(url string) string {
	const plain, secured = "http://", "https://"
	if rest, ok := strings.CutPrefix(url, plain); ok && s == TLSRequire {
		return secured + withPort(rest, ":80")
	}
	if rest, ok := strings.CutPrefix(url, secured); ok && s.Mixed() {
		return plain + withPort(rest, ":443")
	}
	return url
}

// withPort adds a port to the rest of a URL after its scheme, if it has none.
func withPort(rest, port string) string {
	host, path, hasPath := strings.Cut(rest, "/")
	if colon := strings.LastIndexByte(host, ':'); host == "" || colon > strings.LastIndexByte(host, ']') {
		return rest
	}
	if hasPath {
		path = "/" + path
	}
	return host + port + path
}

// URLs returns a list of URLs, each as [TLSStep.URL] does.
func (s TLSStep) URLs(urls []string) []string {
	list := make([]string, len(urls))
	for i, url := range urls {
		list[i] = s.URL(url)
	}
	return list
}

// TLSState is the step that the table of a group has.
type TLSState struct {
	Step   TLSStep `json:"step"`
	Change uint64  `json:"change"` // how many changes of the step there were: a higher one is newer
}

// TLSUse is what a node says about the step, in an answer.
type TLSUse struct {
	Step    TLSStep `json:"step"`    // that it knows
	Secured bool    `json:"secured"` // the request came over TLS
}

// CommittedTLS is the step that the table of a group had after a leader was asked for it.
type CommittedTLS struct {
	Group string   `json:"group"`
	Epoch uint64   `json:"epoch"`
	TLS   TLSState `json:"tls"`
}

// MaxTLSTargets bounds the nodes that one [TLSProbe] names.
const MaxTLSTargets = 500

// TLSProbe names nodes with which another one must try TLS.
type TLSProbe struct {
	Targets []TLSTarget `json:"targets"`
}

// The roles of a [TLSTarget].
const (
	TargetMaster  = "master"
	TargetStorage = "storage"
	TargetMiner   = "miner"
)

// TLSTarget is a node of a [TLSProbe]. Raft is empty for all but masters.
type TLSTarget struct {
	ID   string `json:"id"`
	Role string `json:"role"` // [TargetMaster], [TargetStorage] or [TargetMiner]
	URL  string `json:"url"`
	Raft string `json:"raft,omitempty"` // host:port
}

// TLSProbed are the ports of a [TLSProbe] that did not speak TLS with the node that tried.
type TLSProbed struct {
	Failed []TLSFailure `json:"failed"`
}

// TLSFailure says why a port does not speak TLS.
type TLSFailure struct {
	ID      string `json:"id"`
	Address string `json:"address"` // the URL, or the raft address
	Reason  string `json:"reason"`
}

// TLSChange asks for another step. It is also the answer, with the step that the table has.
type TLSChange struct {
	Step TLSStep `json:"step"`
}
