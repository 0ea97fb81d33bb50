# SPDX-License-Identifier: MIT
"""Reads Structured Fields (RFC 9651, section 4.2), strictly: what the RFC fails, raises Malformed.

Written from the RFC, apart from brim.headers, which it judges. An Item is (value, parameters), an
Inner List the same with a list of Items; a List is a list, a Dictionary a dict of these. Tokens,
dates and display strings have types of their own, so that none passes for a String or Integer.
"""
import base64
import decimal


class Malformed(ValueError):
    """Not a structured field of that type."""


class Token(str):
    """An sf-token."""


class Date(int):
    """An sf-date, seconds since 1970."""


class DisplayString(str):
    """An sf-displaystring."""


ALPHA = frozenset('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz')
DIGIT = frozenset('0123456789')
TCHAR = ALPHA | DIGIT | frozenset("!#$%&'*+-.^_`|~")
KEY_START = frozenset('abcdefghijklmnopqrstuvwxyz*')
KEY = KEY_START | DIGIT | frozenset('_-.')
BASE64 = ALPHA | DIGIT | frozenset('+/=')


class Reader:
    def __init__(self, text):
        if isinstance(text, bytes):
            text = text.decode('latin-1')
        if not text.isascii():
            raise Malformed('not ASCII')
        self.text, self.at = text, 0

    def peek(self):
        return self.text[self.at:self.at + 1]

    def next(self):
        if self.at == len(self.text):
            raise Malformed('ends early')
        self.at += 1
        return self.text[self.at - 1]

    def take(self, wanted):
        if self.peek() != wanted:
            return False
        self.at += 1
        return True

    def skip(self, characters):
        while self.peek() and self.peek() in characters:
            self.at += 1

    def run(self, characters):
        start = self.at
        while self.peek() and self.peek() in characters:
            self.at += 1
        return self.text[start:self.at]

    def whole(self, read):
        self.skip(' ')
        value = read()
        self.skip(' ')
        if self.at != len(self.text):
            raise Malformed(f'characters after the end: {self.text[self.at:]!r}')
        return value

    def more(self):
        """After a member: true if another one follows its comma."""
        self.skip(' \t')
        if not self.peek():
            return False
        if not self.take(','):
            raise Malformed(f'no comma at {self.at}')
        self.skip(' \t')
        if not self.peek():
            raise Malformed('a comma at the end')
        return True

    def list(self):
        members = []
        while self.peek():
            members.append(self.item_or_inner_list())
            if not self.more():
                break
        return members

    def dictionary(self):
        members = {}
        while self.peek():
            key = self.key()
            value = self.item_or_inner_list() if self.take('=') else (True, self.parameters())
            members.pop(key, None)  # the last one counts, in its place
            members[key] = value
            if not self.more():
                break
        return members

    def item_or_inner_list(self):
        return self.inner_list() if self.peek() == '(' else self.item()

    def inner_list(self):
        self.next()
        items = []
        while True:
            self.skip(' ')
            if self.take(')'):
                return items, self.parameters()
            items.append(self.item())
            if self.peek() not in (' ', ')'):
                raise Malformed('an inner list is not closed')

    def item(self):
        return self.bare(), self.parameters()

    def parameters(self):
        found = {}
        while self.take(';'):
            self.skip(' ')
            key = self.key()
            value = self.bare() if self.take('=') else True
            found.pop(key, None)
            found[key] = value
        return found

    def key(self):
        if not self.peek() or self.peek() not in KEY_START:
            raise Malformed(f'no key at {self.at}')
        return self.run(KEY)

    def bare(self):
        first = self.peek()
        if first and (first == '-' or first in DIGIT):
            return self.number()
        if first == '"':
            return self.string()
        if first and (first == '*' or first in ALPHA):
            return Token(self.next() + self.run(TCHAR | {':', '/'}))
        if first == ':':
            return self.byte_sequence()
        if first == '?':
            self.next()
            if (value := self.next()) not in '01':
                raise Malformed('no boolean')
            return value == '1'
        if first == '@':
            self.next()
            if not isinstance(value := self.number(), int):
                raise Malformed('a date of a part of a second')
            return Date(value)
        if first == '%':
            return self.display_string()
        raise Malformed(f'no item at {self.at}')

    def number(self):
        sign = -1 if self.take('-') else 1
        digits = self.run(DIGIT)
        if not digits:
            raise Malformed('a number without digits')
        if not self.take('.'):
            if len(digits) > 15:
                raise Malformed('an integer of more than 15 digits')
            return sign * int(digits)
        rest = self.run(DIGIT)
        if len(digits) > 12 or not 1 <= len(rest) <= 3:
            raise Malformed('a decimal out of range')
        return sign * decimal.Decimal(f'{digits}.{rest}')

    def string(self):
        self.next()
        value = ''
        while True:
            one = self.next()
            if one == '\\':
                one = self.next()
                if one not in '"\\':
                    raise Malformed('a backslash before another character')
            elif one == '"':
                return value
            elif not ' ' <= one <= '~':
                raise Malformed('a character that no string may hold')
            value += one

    def byte_sequence(self):
        self.next()
        end = self.text.find(':', self.at)
        if end < 0:
            raise Malformed('a byte sequence is not closed')
        encoded, self.at = self.text[self.at:end], end + 1
        if not BASE64.issuperset(encoded):
            raise Malformed('no base64')
        try:  # without padding as well
            return base64.b64decode(encoded.rstrip('=') + '=' * (-len(encoded.rstrip('=')) % 4))
        except ValueError as error:
            raise Malformed(str(error)) from error

    def display_string(self):
        self.next()
        if self.next() != '"':
            raise Malformed('a display string without its quote')
        value = bytearray()
        while True:
            one = self.next()
            if not ' ' <= one <= '~':
                raise Malformed('a character that no display string may hold')
            if one == '"':
                break
            if one == '%':
                digits = self.next() + self.next()
                if not set(digits) <= set('0123456789abcdef'):
                    raise Malformed('no two lower-case hexadecimal digits after %')
                value.append(int(digits, 16))
            else:
                value.append(ord(one))
        try:
            return DisplayString(value.decode())
        except UnicodeDecodeError as error:
            raise Malformed(str(error)) from error


def parse_list(text):
    """The List in a field's value; several lines of one field are joined with ", " before."""
    reader = Reader(text)
    return reader.whole(reader.list)


def parse_dictionary(text):
    reader = Reader(text)
    return reader.whole(reader.dictionary)


def parse_item(text):
    reader = Reader(text)
    return reader.whole(reader.item)
