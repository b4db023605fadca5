"""What is wrong with a question, in the exceptions that the standard names (EPCIS 2.0, section 8.2.6)."""

from medtrail.errors import ConflictError, DuplicateError, MalformedError, NotFoundError, TooLargeError


class QueryParameterError(MalformedError):
    """A parameter is unknown, has a value of the wrong form, or contradicts another: QueryParameterException."""

    default_code = "QUERY_PARAMETER"


class QueryTooComplexError(TooLargeError):
    """The question asks for more at once than is answered: QueryTooComplexException."""

    default_code = "QUERY_TOO_COMPLEX"


class QueryTooLargeError(TooLargeError):
    """More events answer than maxEventCount allows: QueryTooLargeException."""

    default_code = "QUERY_TOO_LARGE"


class NoSuchNameError(NotFoundError):
    """No query has this name: NoSuchNameException."""

    default_code = "QUERY_UNKNOWN"


class DuplicateNameError(DuplicateError):
    """Another query has this name: DuplicateNameException."""

    default_code = "QUERY_NAME_TAKEN"


class NoSuchSubscriptionError(NotFoundError):
    """No subscription has this id: NoSuchSubscriptionException."""

    default_code = "SUBSCRIPTION_UNKNOWN"


class SubscribeNotPermittedError(ConflictError):
    """The query cannot be subscribed to: SubscribeNotPermittedException."""

    default_code = "SUBSCRIBE_NOT_PERMITTED"


class SubscriptionControlsError(MalformedError):
    """When to deliver is not said, or not in a way that can be: SubscriptionControlsException."""

    default_code = "SUBSCRIPTION_CONTROLS"


class InvalidUriError(MalformedError):
    """Where to deliver to is no address to which anything is delivered: InvalidURIException."""

    default_code = "DESTINATION_INVALID"
