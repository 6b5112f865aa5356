@echo off
rem Starts Fettle from this folder. Needs Python 3.10 or newer and a package index, nothing else.
setlocal
set "launcher=%~dp0installers\launch.py"
if defined FETTLE_PYTHON (
    "%FETTLE_PYTHON%" -I "%launcher%" %*
    exit /b %errorlevel%
)
for %%v in (3.12 3.11 3.10) do (
    py -%%v -c "" >nul 2>&1 && (
        py -%%v -I "%launcher%" %*
        call exit /b %%errorlevel%%
    )
)
python -c "import sys; sys.exit(sys.version_info < (3, 10))" >nul 2>&1 || (
    echo error: Fettle needs Python 3.10, 3.11 or 3.12, and none was found. 1>&2
    echo   Install one, or name one in FETTLE_PYTHON.  [python-missing] 1>&2
    exit /b 1
)
python -I "%launcher%" %*
exit /b %errorlevel%
