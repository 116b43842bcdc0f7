package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// shapeHelp makes the help of all commands fit a terminal of 80 columns, and shows switches by their names alone.
// Examples stay as they are.
func shapeHelp(root *cobra.Command) {
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", fmt.Sprintf(".FlagUsagesWrapped %d ", standardWidth)))
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		cmd.Long = reflow(cmd.Long, standardWidth)
		for _, flags := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
			flags.VisitAll(func(f *pflag.Flag) {
				if _, done := f.Value.(plainSwitch); f.Value.Type() == "bool" && !done {
					f.Value = plainSwitch{f.Value}
				}
			})
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(root)
}

// plainSwitch is a flag of type bool whose help is "--json": pflag says "--json[=true|false]" of those that it knows for what
// they are. It is set as they are, since that goes by their NoOptDefVal.
type plainSwitch struct{ pflag.Value }

// reflow breaks paragraphs into lines of at most width letters. Lines that begin with a space stay as they are.
func reflow(text string, width int) string {
	var lines, paragraph []string
	flush := func() {
		lines = append(lines, wrap(strings.Join(paragraph, " "), width)...)
		paragraph = nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" && line[0] != ' ' {
			paragraph = append(paragraph, line)
			continue
		}
		flush()
		lines = append(lines, line)
	}
	flush()
	return strings.Join(lines, "\n")
}
