package offline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/roles"
	"github.com/chainstore/chainstore/verify"
)

// maxStateFile is the limit of the file of --state in bytes.
const maxStateFile = 1 << 20

// logResult is the JSON output of verify --url and verify --file.
type logResult struct {
	Valid bool   `json:"valid"`
	Error string `json:"error,omitempty"`
	verify.LogReport
}

// verifyURL audits a running log.
func (o *verifyOptions) verifyURL(cmd *cobra.Command, trust verify.Trust) error {
	token, err := cli.ReadSecret(o.tokenFile, cli.EnvToken)
	if err != nil {
		return err
	}
	tlsConfig, err := cli.TLSConfig(o.ca)
	if err != nil {
		return err
	}
	options := verify.Options{URL: o.url, Trust: trust, Token: token, TLS: tlsConfig}
	if o.state != "" {
		if options.Since, err = readState(o.state); err != nil {
			return err
		}
		options.Save = func(s *verify.State) error {
			data, err := s.Marshal()
			if err != nil {
				return err
			}
			return durable.WriteFile(o.state, data, 0o600)
		}
	}
	bar := render.NewBar(cmd.ErrOrStderr(), "verify", "leaves")
	options.Progress = func(done, total uint64) { bar.Set(int64(done), int64(total)) }
	report, err := verify.Log(cmd.Context(), options)
	bar.Done()
	if errors.Is(err, verify.ErrKey) { // nothing was looked at
		return err
	}
	return o.conclude(cmd, &report, err, "log")
}

// readState reads the state of the previous run, nil if there is none.
func readState(path string) (*verify.State, error) {
	data, err := readBounded(path, maxStateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := verify.ParseState(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &s, nil
}

// verifyFile checks an export. signatures reports whether signatures are required.
func (o *verifyOptions) verifyFile(cmd *cobra.Command, trust verify.Trust, signatures bool) error {
	f, err := os.Open(o.file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	bar := render.NewBar(cmd.ErrOrStderr(), "verify", "")
	report, err := verify.Export(cmd.Context(),
		&roles.ProgressReader{Ctx: cmd.Context(), From: f, Total: info.Size(), Progress: bar.Set},
		verify.ExportOptions{Trust: trust, AllowUnsignedTail: o.allowTail, AllowNoKey: !signatures})
	bar.Done()
	return o.conclude(cmd, &report, err, "export")
}

// conclude prints the result of a check. err is why the check could not be completed.
func (o *verifyOptions) conclude(cmd *cobra.Command, report *verify.LogReport, err error, what string) error {
	if err != nil && cmd.Context().Err() != nil {
		err = fmt.Errorf("stopped after %s, good so far", render.Count(report.Height, "block"))
	}
	switch {
	case !report.Good():
		text := codesText(report.Findings)
		if text == verify.CodeUnsigned && report.SignedHeight > 0 {
			text += " (--allow-unsigned-tail accepts blocks after the newest signed checkpoint)"
		}
		err = cli.Finding{Err: errors.Join(fmt.Errorf("the %s is not valid: %s", what, text), err)}
	case err == nil && len(report.Unchecked) > 0:
		blocks := render.Count(chain.CountBlocks(report.Unchecked), "block")
		if report.UncheckedLeaves > 0 {
			blocks += fmt.Sprintf(" or more (%s)", render.Count(report.UncheckedLeaves, "leaf", "leaves"))
		}
		err = fmt.Errorf("%s of the %s could not be checked, since no node has complete copies any more; "+
			"everything else is good", blocks, what)
	}
	out := cmd.OutOrStdout()
	text := logText(report, render.Width(out))
	r := logResult{Valid: err == nil, LogReport: *report}
	r.Findings, r.Remarks, r.Unchecked = orEmpty(r.Findings), orEmpty(r.Remarks), orEmpty(r.Unchecked)
	r.Checkpoints = orEmpty(r.Checkpoints)
	if err == nil {
		text += verdict(report, what)
	} else {
		r.Error = err.Error()
	}
	return errors.Join(err, render.Print(out, o.asJSON, r, text))
}

// verdict returns the last line of a result without errors. It names what was not checked.
func verdict(r *verify.LogReport, what string) string {
	switch {
	case !r.SignaturesChecked:
		return what + " consistent; no signature was checked\n"
	case r.SignedHeight < r.Height:
		return fmt.Sprintf("%s valid up to block %d; the blocks after it are consistent but not signed\n", what,
			r.SignedHeight-1)
	}
	if r.Hidden > 0 && r.Payloads == 0 {
		return what + " valid; no payload was checked, since the token may read none of them\n"
	}
	return what + " valid\n"
}

func logText(r *verify.LogReport, width int) string {
	var b strings.Builder
	writeFindings(&b, r.Findings, width)
	for i := range r.Checkpoints {
		writeCheckpoint(&b, &r.Checkpoints[i], width)
	}
	fmt.Fprintf(&b, "height     %d\nrecords    %d\nhead       %v\n", r.Height, r.Records, r.Hash)
	if r.SignaturesChecked && r.SignedHeight < r.Height {
		fmt.Fprintf(&b, "signed     %d of these blocks, %d of their %s\n", r.SignedHeight, r.SignedSize,
			render.Count(r.Size, "leaf", "leaves"))
	}
	if r.New+r.UncheckedLeaves < r.Size {
		fmt.Fprintf(&b, "new        %s, the others were checked before\n", render.Count(r.New, "leaf", "leaves"))
	}
	if r.Payloads+r.Hidden > 0 {
		fmt.Fprintf(&b, "payloads   %d checked, %d not shown\n", r.Payloads, r.Hidden)
	}
	if len(r.Unchecked) > 0 {
		render.WriteWrapped(&b, "unchecked  ", render.Ranges(r.Unchecked), width)
	}
	for _, remark := range r.Remarks {
		render.WriteWrapped(&b, "remark     ", remark, width)
	}
	return b.String()
}
