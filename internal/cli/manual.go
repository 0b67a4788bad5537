package cli

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

// manual returns the manual pages by file name: proxmox-realm(1), a page for each command, proxmox-realm(5) for the
// configuration and proxmox-realm-checks(7). They are written for man(7), whose macros every formatter knows.
func manual(root *cobra.Command, date time.Time) map[string][]byte {
	pages := map[string][]byte{
		"proxmox-realm.1":        mainPage(root, date),
		"proxmox-realm.5":        configPage(date),
		"proxmox-realm-checks.7": checksPage(date),
	}
	var each func(*cobra.Command)
	each = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			if hasPage(c) {
				pages[pageName(c)+".1"] = commandPage(c, date)
				each(c)
			}
		}
	}
	each(root)
	return pages
}

// hasPage tells commands from help topics, and from what cobra brings along.
func hasPage(cmd *cobra.Command) bool {
	return !cmd.Hidden && cmd.Name() != "help" && cmd.Name() != "completion" && (cmd.Runnable() || cmd.HasSubCommands())
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func mainPage(root *cobra.Command, date time.Time) []byte {
	p := newPage("proxmox-realm", 1, root.Short, date)
	p.section("SYNOPSIS")
	p.line(`.B proxmox\-realm`)
	p.line(`.I command`)
	p.line(`.RI [ options ]`)
	p.section("DESCRIPTION")
	p.prose(root.Long)
	p.section("COMMANDS")
	for _, group := range root.Groups() {
		for _, c := range root.Commands() {
			if c.GroupID != group.ID {
				continue
			}
			head := `.B ` + escape(c.Name())
			if hasPage(c) {
				head = `.BR ` + escape(pageName(c)) + ` (1)`
			}
			p.term(head, sentence(c.Short))
		}
	}
	p.section("OPTIONS")
	p.prose("Every command takes these options.")
	p.flags(root.PersistentFlags(), func(*pflag.Flag) bool { return true })
	p.exitStatus(nil)
	p.section("ENVIRONMENT")
	for _, v := range [][2]string{
		{"PROXMOX_REALM_CONFIG", "The configuration file."},
		{"PROXMOX_REALM_*", "Every key of the configuration but lists of arguments: the key's path in capitals. See proxmox-realm(5)."},
		{"PROXMOX_VE_ENDPOINT, PROXMOX_VE_API_TOKEN, PROXMOX_VE_USERNAME, PROXMOX_VE_PASSWORD, PROXMOX_VE_INSECURE", "Count as one set, and only where nothing else says anything under proxmox, trust aside."},
		{"NO_COLOR", "No colours."},
		{"HTTPS_PROXY, NO_PROXY", "As usual."},
		{"STATE_DIRECTORY, RUNTIME_DIRECTORY, CREDENTIALS_DIRECTORY", "What systemd gives a service: the defaults of state_dir and of the lock's folder, and where secrets may lie."},
	} {
		p.term(`.B `+escape(v[0]), v[1])
	}
	p.section("FILES")
	for _, f := range [][2]string{
		{"/etc/proxmox-realm/config.yaml", "The configuration, where $XDG_CONFIG_HOME/proxmox-realm/config.yaml does not exist. See proxmox-realm(5)."},
		{"/var/lib/proxmox-realm", "Root's state: recovery files and the last outcome. Others keep theirs in $XDG_STATE_HOME/proxmox-realm."},
		{"/run/proxmox-realm", "Root's locks."},
	} {
		p.term(`.I `+escape(f[0]), f[1])
	}
	p.section("EXAMPLES")
	p.prose("Does the issuer work at all?")
	p.literal("proxmox-realm probe https://auth.example.com")
	p.prose("A token that may do what is needed and nothing more, made on a node of the cluster:")
	p.literal("proxmox-realm bootstrap | ssh root@pve1.example.com sh -e")
	p.prose("What would be changed, and then the change:")
	p.literal("proxmox-realm plan\nproxmox-realm apply")
	p.section("SEE ALSO")
	also := []string{`proxmox\-realm (5)`, `proxmox\-realm\-checks (7)`}
	for _, c := range root.Commands() {
		if hasPage(c) {
			also = append(also, escape(pageName(c))+" (1)")
		}
	}
	p.references(also...)
	return p.bytes()
}

func commandPage(cmd *cobra.Command, date time.Time) []byte {
	p := newPage(pageName(cmd), 1, cmd.Short, date)
	p.section("SYNOPSIS")
	p.line(`.B ` + escape(cmd.CommandPath()))
	if cmd.HasSubCommands() {
		p.line(`.I command`)
	}
	if _, arguments, found := strings.Cut(cmd.Use, " "); found {
		p.line(`.I ` + escape(arguments))
	}
	p.line(`.RI [ options ]`)
	p.section("DESCRIPTION")
	long, codes, _ := strings.Cut(cmd.Long, "\n\nExit codes:\n")
	if long == "" {
		long = sentence(cmd.Short)
	}
	p.prose(long)
	if cmd.HasAvailableSubCommands() {
		p.section("COMMANDS")
		for _, c := range cmd.Commands() {
			if hasPage(c) {
				p.term(`.BR `+escape(pageName(c))+` (1)`, sentence(c.Short))
			}
		}
	}
	isKey := func(f *pflag.Flag) bool { return len(f.Annotations[keyAnnotation]) > 0 }
	own := cmd.LocalNonPersistentFlags()
	own.SortFlags = false // related ones stay together
	p.section("OPTIONS")
	p.flags(own, func(f *pflag.Flag) bool { return !isKey(f) })
	p.prose("The options that every command takes are in proxmox-realm(1).")
	if cmd.Annotations[keyAnnotation] != "" {
		p.section("KEYS OF THE CONFIGURATION")
		p.prose("The common keys are options too, so that a first run needs no file. They beat the environment, which beats the file.")
		p.flags(own, isKey)
	}
	p.exitStatus(strings.Split(codes, "\n"))
	if cmd.Example != "" {
		p.section("EXAMPLES")
		p.literal(unindented(cmd.Example))
	}
	p.section("SEE ALSO")
	p.references(`proxmox\-realm (1)`, `proxmox\-realm (5)`)
	return p.bytes()
}

func configPage(date time.Time) []byte {
	p := newPage("proxmox-realm", 5, "The configuration of proxmox-realm", date)
	p.section("DESCRIPTION")
	p.prose(`One YAML document (JSON is YAML too), found by --config, $PROXMOX_REALM_CONFIG, $XDG_CONFIG_HOME/proxmox-realm/config.yaml or /etc/proxmox-realm/config.yaml, in this order. Options beat the environment, which beats the file. "proxmox-realm config show" tells where each value came from, "proxmox-realm config check" what is wrong, all at once.

A file that somebody else than root or the caller owns, or that others can write, is refused: it can name commands. So are unknown and doubled keys, unknown variables, and values that Proxmox would rewrite.

A property of the realm that is absent is left as it is, a value is enforced, and realm.unset removes.`)
	p.section("KEYS")
	for _, k := range config.Keys() {
		text := k.Doc
		if k.Default != "" {
			text += " Default: " + k.Default + "."
		}
		if len(k.Choices) > 0 {
			text += " One of " + strings.Join(k.Choices, ", ") + "."
		}
		if k.Since > "7.1" {
			text += " Proxmox VE " + k.Since + " and later."
		}
		var also []string
		if k.Flag != "" {
			also = append(also, "--"+k.Flag)
		}
		if k.Env != "" {
			also = append(also, k.Env)
		}
		p.term(`.B `+escape(k.Path), text)
		if len(also) > 0 {
			p.line(`.br`)
			p.line(escape(strings.Join(also, ", ")))
		}
	}
	p.term(`.B targets`, "Many clusters: a list of names, each with keys that overlay those above. A target that sets endpoints inherits no credentials, no trust and no redirect URLs: one cluster's token never goes to another.")
	p.section("SECRETS")
	p.prose(`Each secret has one source. A key that ends in _file names a file; $VARS in its path are expanded, so that $CREDENTIALS_DIRECTORY/token works under systemd, and one line feed at its end is dropped. A key that ends in _command is a list of arguments, run without a shell. No option takes a secret: argv is public.`)
	p.section("EXAMPLES")
	p.literal(`proxmox:
  endpoints: [https://pve1.example.com:8006, https://pve2.example.com:8006]
  token_file: /etc/proxmox-realm/token
  ca_file: /etc/proxmox-realm/pve-root-ca.pem
realm:
  issuer_url: https://auth.example.com
  client_id: proxmox
  client_key_file: /etc/proxmox-realm/client-key
  scopes: [openid, profile, email]
  autocreate: true
verify:
  redirect_urls: [https://pve1.example.com:8006, https://pve2.example.com:8006]`)
	p.section("SEE ALSO")
	p.references(`proxmox\-realm (1)`, `proxmox\-realm\-config (1)`, `proxmox\-realm\-checks (7)`)
	return p.bytes()
}

func checksPage(date time.Time) []byte {
	p := newPage("proxmox-realm-checks", 7, "The checks of proxmox-realm", date)
	p.section("DESCRIPTION")
	p.prose(`A check passes, warns, fails or is skipped. It fails only on proof that a login breaks; what this machine or these credentials cannot see is skipped. The key verify.ignore names checks that neither fail nor warn.`)
	p.section("ISSUER, CLIENT AND REALM")
	p.prose("Each holds when")
	for _, e := range check.Catalog() {
		p.term(`.B `+escape(string(e.ID)), e.Holds)
	}
	p.section("SEE ALSO")
	p.references(`proxmox\-realm (1)`, `proxmox\-realm\-verify (1)`, `proxmox\-realm\-authelia (1)`)
	return p.bytes()
}

// page is a manual page in the making.
type page struct{ text strings.Builder }

func newPage(name string, section int, short string, date time.Time) *page {
	kind := map[int]string{1: "User Commands", 5: "File Formats", 7: "Miscellaneous"}[section]
	version, _ := build()
	p := &page{}
	p.line(`.\" Made from the commands by "proxmox-realm docs".`)
	p.line(fmt.Sprintf(`.TH %s %d %q %q %q`, escape(strings.ToUpper(name)), section, date.Format(time.DateOnly), "proxmox-realm "+version, kind))
	p.line(".nh\n.ad l") // names of keys and commands stay whole
	p.section("NAME")
	p.line(escape(name) + ` \- ` + escape(lowerFirst(short)))
	return p
}

func (p *page) bytes() []byte { return []byte(p.text.String()) }

func (p *page) line(text string) { p.text.WriteString(text + "\n") }

func (p *page) section(title string) { p.line(`.SH ` + escape(title)) }

// prose writes paragraphs; those that are indented stay as they are.
func (p *page) prose(text string) {
	for i, block := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		if strings.HasPrefix(block, "  ") {
			p.literal(unindented(block))
			continue
		}
		if i > 0 || !p.opened() {
			p.line(`.PP`)
		}
		p.running(block)
	}
}

// opened holds right after a heading, where a paragraph needs no macro.
func (p *page) opened() bool {
	text := strings.TrimSuffix(p.text.String(), "\n")
	return strings.HasPrefix(text[strings.LastIndex(text, "\n")+1:], ".SH ")
}

// running writes text that the formatter fills, each sentence on a line of its own: it then sets the space behind it.
func (p *page) running(text string) {
	text = strings.Join(strings.Fields(text), " ")
	for s := range strings.SplitSeq(sentenceEnd.ReplaceAllString(text, "$1\n$2"), "\n") {
		for line := range strings.Lines(wrapped("", s)) {
			p.line(escape(strings.TrimSuffix(line, "\n")))
		}
	}
}

var sentenceEnd = regexp.MustCompile(`([.!?]) ([A-Z"$])`)

// literal writes an example.
func (p *page) literal(text string) {
	if !p.opened() {
		p.line(`.PP`)
	}
	p.line(".in +4n\n.nf")
	for line := range strings.Lines(text) {
		p.line(escape(strings.TrimSuffix(line, "\n")))
	}
	p.line(".fi\n.in")
}

func (p *page) term(head, text string) {
	p.line(`.TP`)
	p.line(head)
	p.running(text)
}

func (p *page) flags(set *pflag.FlagSet, wanted func(*pflag.Flag) bool) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || !wanted(f) {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		head := `\fB\-\-` + escape(f.Name) + `\fR`
		if f.Shorthand != "" {
			head = `\fB\-` + escape(f.Shorthand) + `\fR, ` + head
		}
		switch {
		case f.NoOptDefVal != "" && f.Value.Type() != "bool":
			head += `[=\fItrue\fR|\fIfalse\fR]`
		case strings.HasPrefix(value, "string"): // pflag's word where the text names none
			head += ` \fIVALUE\fR`
		case value != "":
			head += ` \fI` + escape(value) + `\fR`
		}
		text = sentence(text)
		switch f.DefValue {
		case "", "false", "[]", "0", "0s":
		default:
			text += " Default: " + f.DefValue + "."
		}
		if f.Value.Type() == "stringArray" && !strings.Contains(text, "repeatable") {
			text += " Repeatable."
		}
		p.term(head, text)
	})
}

// exitStatus writes the codes that a command's help names, or all of them.
func (p *page) exitStatus(lines []string) {
	p.section("EXIT STATUS")
	if lines == nil {
		for _, m := range exitMeanings {
			p.term(fmt.Sprintf(`.B %d`, m.code), sentence(m.means))
		}
		p.prose("With several targets, every one is tried, and the code is the first that occurred of 130, 143, 1, 78, 77, 69, 75, 12, 13, 11, 10.")
		return
	}
	for _, line := range lines {
		code, means, found := strings.Cut(strings.TrimSpace(line), " ")
		if found && strings.HasPrefix(line, "  ") {
			p.term(`.B `+code, sentence(strings.TrimSpace(means)))
		}
	}
	p.prose("All of them are in proxmox-realm(1).")
}

// references writes pages to see also, each given as "name (section)".
func (p *page) references(pages ...string) {
	for i, name := range pages {
		end := ","
		if i == len(pages)-1 {
			end = ""
		}
		p.line(`.BR ` + name + end)
	}
}

// escape makes text plain to the formatter: no escape sequence, no request, no quote or dash that it would beautify.
func escape(text string) string {
	text = roff.Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

var roff = strings.NewReplacer(`\`, `\e`, `-`, `\-`, "`", `\(ga`, `^`, `\(ha`, `~`, `\(ti`, `…`, `\|.\|.\|.`)

// sentence makes one of a flag's or a command's text.
func sentence(text string) string {
	text = strings.TrimSpace(text)
	if text == "" {
		return text
	}
	text = strings.ToUpper(text[:1]) + text[1:]
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

// lowerFirst begins a description as NAME sections do.
func lowerFirst(text string) string {
	if text == "" {
		return text
	}
	return strings.ToLower(text[:1]) + text[1:]
}

// unindented drops the two spaces before each line of an example.
func unindented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimPrefix(line, "  "))
	}
	return b.String()
}
